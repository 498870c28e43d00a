use std::collections::HashMap;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::codec::Framed;

use super::spdy::{Answer, Codec, Frame};
use super::{Pod, carry};

/// Frames waiting for a connection, and for the client. A connection that takes nothing more holds
/// up the client, as SPDY without windows must.
const WAITING: usize = 64;
/// Streams that a client may have open.
const STREAMS: usize = 2048;

/// Serves one client: every pair of streams with one `requestid`, an error and a data stream, is
/// one connection into the pod.
pub(super) async fn run(connection: impl AsyncRead + AsyncWrite + Unpin, pod: Pod) {
    let (mut sink, mut frames) = Framed::new(connection, Codec::default()).split();
    let (answers, mut waiting) = mpsc::channel(WAITING);
    let outward = async {
        while let Some(answer) = waiting.recv().await {
            if sink.send(answer).await.is_err() {
                return;
            }
        }
    };
    let inward = async {
        let mut session =
            Session { pod, answers, streams: HashMap::new(), pairs: HashMap::new(), connections: JoinSet::new() };
        while let Some(frame) = frames.next().await {
            let going = match frame {
                Ok(frame) => session.take(frame).await,
                Err(error) => {
                    tracing::debug!(%error, "a port-forward client");
                    return;
                }
            };
            if going.is_none() {
                return;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}

struct Session {
    pod: Pod,
    answers: mpsc::Sender<Answer>,
    /// Where the data of open data streams goes; `None` for error streams, which carry none.
    streams: HashMap<u32, Option<mpsc::Sender<Bytes>>>,
    /// Error streams whose data stream is still to come, by their request.
    pairs: HashMap<String, u32>,
    connections: JoinSet<()>,
}

impl Session {
    /// `None` once nobody takes answers any more, or the client says that it is done.
    async fn take(&mut self, frame: Frame) -> Option<()> {
        while self.connections.try_join_next().is_some() {}
        match frame {
            Frame::Open { stream, headers, end } => self.open(stream, &headers, end).await,
            Frame::Data { stream, data, end } => {
                if let Some(Some(to)) = self.streams.get(&stream)
                    && !data.is_empty()
                {
                    // A connection that is gone has said so on its streams.
                    let _ = to.send(data).await;
                }
                if end {
                    self.streams.remove(&stream);
                }
                Some(())
            }
            Frame::Reset { stream } => {
                self.streams.remove(&stream);
                Some(())
            }
            Frame::Ping(id) => self.answers.send(Answer::Ping(id)).await.ok(),
            Frame::GoAway | Frame::Other => Some(()),
        }
    }

    async fn open(&mut self, stream: u32, headers: &[(String, String)], end: bool) -> Option<()> {
        let header = |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let kind = header("streamtype").unwrap_or_default();
        let port: Option<u16> = header("port").and_then(|p| p.parse().ok());
        let request = header("requestid").unwrap_or_default().to_owned();
        let (true, Some(port @ 1..)) = (self.streams.len() < STREAMS, port) else {
            return self.answers.send(Answer::Refuse { stream }).await.ok();
        };
        match kind {
            "error" => {
                self.pairs.insert(request, stream);
                self.streams.insert(stream, None);
            }
            "data" => {
                let Some(errors) = self.pairs.remove(&request) else {
                    return self.answers.send(Answer::Refuse { stream }).await.ok();
                };
                let (to, data) = mpsc::channel(WAITING);
                if !end {
                    self.streams.insert(stream, Some(to));
                }
                let pair = Pair { stream, errors, answers: self.answers.clone() };
                let pod = self.pod.clone();
                self.connections.spawn(async move { pair.forward(&pod, port, data).await });
            }
            _ => return self.answers.send(Answer::Refuse { stream }).await.ok(),
        }
        self.answers.send(Answer::Accept { stream }).await.ok()
    }
}

/// The two streams of one connection.
struct Pair {
    stream: u32,
    errors: u32,
    answers: mpsc::Sender<Answer>,
}

impl Pair {
    async fn forward(self, pod: &Pod, port: u16, data: mpsc::Receiver<Bytes>) {
        let error = match pod.connect(port).await {
            Ok(connection) => {
                let stream = self.stream;
                let wrap = |piece: &[u8]| Answer::Data { stream, data: Bytes::copy_from_slice(piece), end: false };
                carry(connection, data, &self.answers, wrap).await;
                Bytes::new()
            }
            Err(error) => error.into(),
        };
        // The client may be gone: then nobody needs to know.
        let _ = self.answers.send(Answer::Data { stream: self.errors, data: error, end: true }).await;
        let _ = self.answers.send(Answer::Data { stream: self.stream, data: Bytes::new(), end: true }).await;
    }
}
