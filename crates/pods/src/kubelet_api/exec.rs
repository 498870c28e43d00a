use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::channel::PROTOCOLS;
use super::{Refused, find, query, session};
use crate::environment::{Sources, environment};
use crate::program::{Interior, Place, Program};
use crate::registry::{ContainerView, Entry, View};
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
    let Some(sandbox) = entry.sandbox.as_ref().filter(|_| view.running) else {
        return Err(Refused(
            StatusCode::BAD_REQUEST,
            format!("container {container} of pod {namespace}/{pod} does not run"),
        ));
    };
    let interior = match &view.interior {
        Some(interior) => interior.as_ref().clone(),
        None => stand_in(&shared, &entry, &view, sandbox).await,
    };
    let tty = query::flag(&pairs, "tty") || query::flag(&pairs, "TTY");
    let stdin = query::flag(&pairs, "stdin") || query::flag(&pairs, "input");
    let mut program = Program { stdin, tty, ..interior.program(command) };
    if tty {
        program.environment.entry("TERM".into()).or_insert_with(|| "xterm".into());
    }
    Ok(upgrade
        .protocols(PROTOCOLS)
        .on_upgrade(async move |socket| session::run(socket, program, interior.place).await))
}

/// What a program finds in place of a stand-in's image: this machine's files, and the environment
/// as far as it is known.
async fn stand_in(shared: &Shared, entry: &Entry, container: &ContainerView, sandbox: &View) -> Interior {
    let place = Place {
        pause: sandbox.pid,
        netns: sandbox.netns.clone(),
        files: sandbox.dir.clone(),
        container: None,
        cgroup: None,
    };
    let sources = Sources::fetch(&shared.config.client, &entry.pod, &container.declared).await;
    let services = shared.services.linked(&entry.pod);
    let trusted = shared.config.authority.as_ref().map(|authority| authority.certificate.as_path());
    let (environment, _) =
        environment(&entry.pod, &container.declared, &sandbox.hostname, &services, &sources, trusted);
    Interior { place, environment, working_dir: "/".into(), user: None }
}

/// Clients that still speak SPDY are told so; `kubectl` since 1.31 does not.
pub(super) async fn not_spdy() -> Refused {
    let what = "exec is served over WebSocket (v5.channel.k8s.io) only: use kubectl 1.31 or newer";
    Refused(StatusCode::UPGRADE_REQUIRED, what.into())
}
