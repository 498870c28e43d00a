//! The node's control socket: one task a connection, requests answered in order.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use kilter_wire::control::{Reply, Request};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

/// What the control socket answers from.
pub struct Answers {
    /// Rows, watches and drops.
    pub agent: kilter_agent::Handle,
    /// Sandboxes, into which probes are sent.
    pub pods: kilter_pods::Handle,
}

/// Serves until the task is aborted. A socket left by a process that was killed is replaced.
pub fn serve(socket: &Path, answers: Arc<Answers>) -> Result<JoinHandle<()>> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context(format!("remove the old {}", socket.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("listen at {}", socket.display()))?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve_one(stream, Arc::clone(&answers)));
                }
                Err(error) => warn!(%error, "the control socket cannot accept"),
            }
        }
    }))
}

async fn serve_one(stream: UnixStream, answers: Arc<Answers>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let served = match kilter_wire::decode(line.as_bytes()) {
            Ok(Request::Drops) => return follow(&mut write, answers.agent.drops(), Reply::Drop).await,
            Ok(Request::Opened) => {
                return follow(&mut write, answers.agent.opened().await, Reply::Opened).await;
            }
            Ok(request) => send(&mut write, &answer(request, &answers).await).await,
            Err(error) => send(&mut write, &Reply::Failed(format!("not a request: {error}"))).await,
        };
        if let Err(error) = served {
            debug!(%error, "a control connection ended");
            return;
        }
    }
}

async fn answer(request: Request, answers: &Answers) -> Reply {
    match request {
        Request::Status => Reply::Status(Box::new(answers.agent.status().await)),
        Request::Probe(probes) => Reply::Probed(answers.pods.probe(probes).await),
        Request::Loaded => match answers.agent.loaded().await {
            Ok(loaded) => Reply::Loaded(Box::new(loaded)),
            Err(why) => Reply::Failed(format!("what is loaded cannot be read: {why}")),
        },
        Request::Flows => match answers.agent.flows().await {
            Ok(flows) => Reply::Flows(flows),
            Err(error) => Reply::Failed(format!("the flow table cannot be read: {error:#}")),
        },
        Request::RecentDrops => Reply::RecentDrops(answers.agent.recent_drops().await),
        Request::Drops | Request::Opened => Reply::Failed("BUG: these are streams".into()),
    }
}

async fn follow<T: Clone>(
    write: &mut OwnedWriteHalf,
    mut events: broadcast::Receiver<T>,
    reply: impl Fn(T) -> Reply,
) {
    if send(write, &Reply::Following).await.is_err() {
        return;
    }
    loop {
        match events.recv().await {
            Ok(event) => {
                if send(write, &reply(event)).await.is_err() {
                    return;
                }
            }
            Err(RecvError::Lagged(missed)) => warn!(missed, "a follower is too slow"),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, reply: &Reply) -> Result<()> {
    Ok(write.write_all(&kilter_wire::encode(reply)?).await?)
}
