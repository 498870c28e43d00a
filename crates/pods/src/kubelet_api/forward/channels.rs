//! Port-forward over channels: port number `i` of the query has channel `2i` for data and `2i + 1`
//! for an error, each of which begins with the port (two bytes, little endian).

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::channel;
use super::{Pod, carry};

/// Frames waiting for a connection, and for the client.
const WAITING: usize = 64;

/// Serves one client until it goes away.
pub(super) async fn run(socket: WebSocket, pod: &Pod, ports: &[u16]) {
    let (mut sink, mut messages) = socket.split();
    let (answers, mut waiting) = mpsc::channel(WAITING);
    let mut connections = JoinSet::new();
    let mut inputs = vec![];
    // A channel is one byte.
    for (i, port) in ports.iter().copied().enumerate().take(usize::from(u8::MAX / 2)) {
        let (to, data) = mpsc::channel(WAITING);
        inputs.push(Some(to));
        connections.spawn(forward(pod.clone(), port, (i * 2) as u8, data, answers.clone()));
    }
    drop(answers);
    let outward = async {
        while let Some(frame) = waiting.recv().await {
            if sink.send(Message::Binary(frame)).await.is_err() {
                return;
            }
        }
        // All connections have ended.
        let _ = sink.send(Message::Close(None)).await;
    };
    let inward = async {
        while let Some(Ok(message)) = messages.next().await {
            let Message::Binary(frame) = message else { continue };
            let Some(number) = frame.first().filter(|n| *n % 2 == 0) else { continue };
            if let Some(Some(to)) = inputs.get(usize::from(number / 2))
                && to.send(frame.slice(1..)).await.is_err()
            {
                inputs[usize::from(number / 2)] = None;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}

async fn forward(pod: Pod, port: u16, data: u8, input: mpsc::Receiver<Bytes>, answers: mpsc::Sender<Bytes>) {
    let send = async |number: u8, bytes: &[u8]| answers.send(channel::encode(number, bytes)).await.is_ok();
    let errors = data + 1;
    if !(send(data, &port.to_le_bytes()).await && send(errors, &port.to_le_bytes()).await) {
        return;
    }
    let connection = match pod.connect(port).await {
        Ok(connection) => connection,
        Err(error) => {
            send(errors, error.as_bytes()).await;
            return;
        }
    };
    carry(connection, input, &answers, |piece| channel::encode(data, piece)).await;
}
