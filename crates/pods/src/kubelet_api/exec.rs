use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::channel::PROTOCOLS;
use super::spawn::Program;
use super::{Refused, find, query, session};
use crate::environment::environment;
use crate::registry::Entry;
use crate::sync::Shared;

/// `GET /exec/{namespace}/{pod}/{container}` as a WebSocket.
pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let Ok(upgrade) = upgrade else { return Err(not_spdy().await) };
    let (entry, view) = find(&shared, &namespace, &pod, &container)?;
    let pairs = query::pairs(query.as_deref());
    let command: Vec<String> =
        pairs.iter().filter(|(key, _)| key == "command").map(|(_, v)| v.clone()).collect();
    if command.is_empty() {
        return Err(Refused(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 command for the container".into(),
        ));
    }
    let Some(sandbox) = entry.sandbox.clone().filter(|_| view.running) else {
        return Err(Refused(
            StatusCode::BAD_REQUEST,
            format!("container {container} of pod {namespace}/{pod} does not run"),
        ));
    };
    let tty = query::flag(&pairs, "tty") || query::flag(&pairs, "TTY");
    let mut environment =
        environment(&entry.pod, &view.declared, &sandbox.hostname, &services(&shared, &entry));
    if tty {
        environment.entry("TERM".into()).or_insert_with(|| "xterm".into());
    }
    let stdin = query::flag(&pairs, "stdin") || query::flag(&pairs, "input");
    let program = Program { command, environment, stdin, tty };
    Ok(upgrade
        .protocols(PROTOCOLS)
        .on_upgrade(async move |socket| session::run(socket, program, sandbox).await))
}

/// Clients that still speak SPDY are told so; `kubectl` since 1.31 does not.
pub(super) async fn not_spdy() -> Refused {
    let what = "exec is served over WebSocket (v5.channel.k8s.io) only: use kubectl 1.31 or newer";
    Refused(StatusCode::UPGRADE_REQUIRED, what.into())
}

/// The Services whose variables a container gets: its namespace's unless it declines, and the API.
fn services(shared: &Shared, entry: &Entry) -> Vec<Arc<k8s_openapi::api::core::v1::Service>> {
    let mut services = shared.services.of_namespace("default");
    services.retain(|service| service.metadata.name.as_deref() == Some("kubernetes"));
    if entry.pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false) {
        services.extend(
            shared.services.of_namespace(entry.pod.metadata.namespace.as_deref().unwrap_or_default()),
        );
    }
    services
}
