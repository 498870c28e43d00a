//! The kubelet's HTTPS API, as far as `kubectl logs`, `exec`, `attach` and `port-forward` need it.

mod attach;
mod auth;
mod channel;
mod exec;
mod forward;
mod listen;
mod logs;
mod query;
mod session;
mod terminal;

pub use listen::listen;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;

use crate::registry::{ContainerView, Entry};
use crate::sync::Shared;

/// All routes; everything but health needs the token.
fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/pods", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
        .route("/exec/{namespace}/{pod}/{container}", get(exec::serve).post(exec::not_spdy))
        .route("/attach/{namespace}/{pod}/{container}", get(attach::serve).post(exec::not_spdy))
        .route("/portForward/{namespace}/{pod}", get(forward::serve).post(forward::serve))
        .route_layer(axum::middleware::from_fn_with_state(shared.clone(), auth::require_token));
    Router::new().route("/healthz", get(async || "ok")).merge(guarded).with_state(shared)
}

async fn pods(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let items: Vec<_> = shared.registry.all().iter().map(|entry| entry.pod.clone()).collect();
    Json(serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// An answer in plain text, which the API server passes on to `kubectl`.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// A container of a pod of this node, by name.
fn find(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(Arc<Entry>, ContainerView), Refused> {
    let not_found = |what: String| Refused(StatusCode::NOT_FOUND, what);
    let entry = shared.registry.find(namespace, pod).ok_or_else(|| {
        not_found(format!("pod {namespace}/{pod} does not run on node {}", shared.config.node))
    })?;
    let found = entry.containers.iter().find(|view| view.declared.name == container).cloned();
    let found = found
        .ok_or_else(|| not_found(format!("container {container} is not valid for pod {namespace}/{pod}")))?;
    Ok((entry, found))
}
