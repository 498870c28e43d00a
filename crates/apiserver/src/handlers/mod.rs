//! From a request to an answer.

mod apply;
mod containers;
mod list;
mod patch;
mod pods;
mod read;
mod remove;
mod scale;
mod write;

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::api::Api;
use crate::request::{Query, Route, Target};
use crate::respond::{self, Answer};
use crate::status::Status;
use crate::{discovery, openapi};

/// Answers a request, whatever it is.
pub async fn handle(api: Arc<Api>, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = route(api, request).await.unwrap_or_else(|status| respond::refusal(&status));
    tracing::debug!(%method, path, code = answer.status().as_u16(), "request");
    answer
}

async fn route(api: Arc<Api>, request: Request<Incoming>) -> Result<Answer, Status> {
    let store = api.registry.store.clone();
    let served = store.catalogue();
    let route = Route::parse(request.uri().path(), served);
    match route {
        // Anybody may ask whether the server is well and what it is.
        Ok(Route::Health) => return Ok(respond::text(StatusCode::OK, "ok")),
        Ok(Route::Version) => return Ok(version()),
        _ => api.tokens.user(request.headers())?,
    };
    let route = route?;
    if !matches!(route, Route::Target(_)) && request.method() != Method::GET {
        return Err(Status::method_not_allowed());
    }
    match route {
        Route::Health => Ok(respond::text(StatusCode::OK, "ok")),
        Route::Version => Ok(version()),
        Route::CoreVersions => discovery::core(served, request.headers()),
        Route::Groups => discovery::groups(served, request.headers()),
        Route::Group(group) => discovery::group(served, &group),
        Route::Resources { group, version } => discovery::resources(served, &group, &version),
        Route::OpenApiV2 => Ok(openapi::version_2()),
        Route::OpenApiIndex => Ok(openapi::index(served)),
        Route::OpenApi { group, version } => openapi::document(served, &group, &version),
        Route::Target(target) => {
            let query = Query::parse(request.uri().query());
            dispatch(&api, target, &query, request).await
        }
    }
}

/// The version of Kubernetes whose API this is; what follows the plus is ours.
fn version() -> Answer {
    let value = json!({
        "major": "1", "minor": "37", "gitVersion": concat!("v1.37.0+kilter.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
    });
    respond::json(StatusCode::OK, &value)
}

async fn dispatch(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let method = request.method().clone();
    let subresource = target.subresource.clone();
    match (subresource.as_deref(), target.name.is_some()) {
        (None, false) => match method {
            Method::GET if query.flag("watch") => list::watch(api, &target, query, request.headers()),
            Method::GET => list::list(api, &target, query, request.headers()),
            Method::POST if target.resource.kind.namespaced == target.namespace.is_some() => {
                write::create(api, target, query, request).await
            }
            Method::DELETE if target.resource.kind.namespaced == target.namespace.is_some() => {
                remove::delete_collection(api, target, query, request).await
            }
            _ => Err(Status::method_not_allowed()),
        },
        (None, true) => match method {
            Method::GET => read::get(api, &target, query, request.headers()),
            Method::PUT => write::replace(api, target, query, request).await,
            Method::PATCH => patch::patch(api, target, query, request).await,
            Method::DELETE => remove::delete(api, target, query, request).await,
            _ => Err(Status::method_not_allowed()),
        },
        (Some("status"), _) if target.resource.kind.status => match method {
            Method::GET => read::get(api, &target, query, request.headers()),
            Method::PUT => write::replace(api, target, query, request).await,
            Method::PATCH => patch::patch(api, target, query, request).await,
            _ => Err(Status::method_not_allowed()),
        },
        (Some("scale"), _) if target.resource.kind.scale => scale::scale(api, target, query, request).await,
        (Some(name), _) if target.resource.subresources.iter().any(|s| s.name == name) => {
            match (name, method) {
                ("binding", Method::POST) => pods::bind(api, target, query, request).await,
                ("eviction", Method::POST) => pods::evict(api, target, query, request).await,
                ("log", Method::GET) => containers::log(api, &target, query).await,
                ("exec" | "attach", Method::GET | Method::POST) => {
                    containers::streams(api, &target, query, request).await
                }
                ("portforward", Method::GET | Method::POST) => {
                    containers::port_forward(api, &target, query, request).await
                }
                _ => Err(Status::method_not_allowed()),
            }
        }
        _ => Err(Status::unknown_path()),
    }
}
