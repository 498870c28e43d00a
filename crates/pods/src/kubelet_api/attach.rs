use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::{SinkExt, StreamExt};

use super::channel::{self, ERROR, Finish, PROTOCOLS, STDOUT};
use super::{Refused, exec, find};
use crate::logs::Log;
use crate::sync::Shared;

/// `GET /attach/{namespace}/{pod}/{container}` as a WebSocket: what the container prints from now
/// on. Stand-ins read nothing, so what a client types goes nowhere.
pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let Ok(upgrade) = upgrade else { return Err(exec::not_spdy().await) };
    let (_, view) = find(&shared, &namespace, &pod, &container)?;
    if !view.running {
        let what = format!("container {container} of pod {namespace}/{pod} does not run");
        return Err(Refused(StatusCode::BAD_REQUEST, what));
    }
    Ok(upgrade.protocols(PROTOCOLS).on_upgrade(async move |socket| carry(socket, &view.log).await))
}

async fn carry(socket: WebSocket, log: &Log) {
    let (mut sink, mut messages) = socket.split();
    let mut reader = log.read(Some(0));
    loop {
        let more = tokio::select! {
            more = reader.more() => more,
            message = messages.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        for line in log.take(&mut reader) {
            let text = format!("{}\n", line.text);
            if sink.send(Message::Binary(channel::encode(STDOUT, text.as_bytes()))).await.is_err() {
                return;
            }
        }
        if !more {
            break;
        }
    }
    let status = channel::status(&Finish::Exited(0)).to_string();
    // The client may be gone: then nobody needs to know.
    let _ = sink.send(Message::Binary(channel::encode(ERROR, status.as_bytes()))).await;
    let normal = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let _ = sink.send(Message::Close(Some(normal))).await;
}
