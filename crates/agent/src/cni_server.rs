//! The socket at which the CNI plugin asks: one request and one reply a connection.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kilter_wire::cni::{CniError, NetConf, code};
use kilter_wire::plugin::{Command as PluginCommand, Reply, Request};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::command::{Command, Pod, Refusal};
use crate::wiring::{Add, Wiring};

/// A request is a few hundred bytes.
const MAX_REQUEST: u64 = 1 << 20;

/// Before the next attempt when nothing can be accepted.
const BREATH: Duration = Duration::from_millis(100);

/// Listens; a socket left by a process that was killed is replaced. Only root may ask.
pub fn listen(socket: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old {}", socket.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("listen at {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("restrict {}", socket.display()))?;
    Ok(listener)
}

/// Serves until dropped. A request that has begun goes on to its end although its asker hangs up: half
/// an ADD helps nobody, and the runtime's DEL will find it.
pub async fn serve(listener: UnixListener, wiring: Arc<Wiring>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve_one(stream, Arc::clone(&wiring)))),
            Err(error) => {
                tracing::warn!(%error, "the plugin's socket cannot accept");
                // Out of descriptors, most likely: accepting again at once would only spin.
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn serve_one(stream: UnixStream, wiring: Arc<Wiring>) {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    if let Err(error) = BufReader::new(read).take(MAX_REQUEST).read_until(b'\n', &mut line).await {
        tracing::debug!(%error, "a plugin went away");
        return;
    }
    let reply = match kilter_wire::decode::<Request>(&line) {
        Ok(request) => answer(&request, &wiring).await,
        Err(error) => Reply::Failed(CniError {
            cni_version: kilter_wire::cni::CURRENT_VERSION.into(),
            code: code::DECODE,
            msg: "the agent does not understand the plugin".into(),
            details: format!("{error}; are kilter-cni and the agent of one version?"),
        }),
    };
    let sent = match kilter_wire::encode(&reply) {
        Ok(bytes) => write.write_all(&bytes).await,
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a plugin went away before its answer");
    }
}

async fn answer(request: &Request, wiring: &Wiring) -> Reply {
    let done = match request.command {
        PluginCommand::Add => match add_of(request) {
            Ok(add) => match wiring.add(&add).await {
                Ok(result) => {
                    tracing::info!(pod = %add.pod.name, container = %add.container, address = %result.ips[0].address, "wired");
                    return Reply::Added(result);
                }
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        },
        PluginCommand::Del if !is_id(&request.container_id) => Err(bad_id(request)),
        PluginCommand::Del => wiring.del(&request.container_id).await,
        PluginCommand::Status => status(wiring).await,
    };
    match done {
        Ok(()) => Reply::Done,
        Err(refusal) => {
            tracing::warn!(container = %request.container_id, error = %refusal.details, "{:?}: {}", request.command, refusal.msg);
            Reply::Failed(failure(&request.config, refusal))
        }
    }
}

fn failure(config: &NetConf, refusal: Refusal) -> CniError {
    let Refusal { code, msg, details } = refusal;
    CniError { cni_version: config.cni_version.clone(), code, msg, details }
}

async fn status(wiring: &Wiring) -> Result<(), Refusal> {
    let (reply, answer) = oneshot::channel();
    let unavailable = |details: &str| Refusal {
        code: code::NOT_AVAILABLE,
        msg: "the agent cannot wire pods yet".into(),
        details: details.into(),
    };
    wiring.engine.send(Command::Status(reply)).await.map_err(|_| unavailable("it is stopping"))?;
    match answer.await {
        Ok(status) if status.ready => Ok(()),
        Ok(_) => Err(unavailable("it has not seen the whole cluster, or the kernel refuses its rows")),
        Err(_) => Err(unavailable("it is stopping")),
    }
}

/// Checks again what the plugin checked: the container's id becomes a file name.
fn add_of(request: &Request) -> Result<Add, Refusal> {
    if !is_id(&request.container_id) {
        return Err(bad_id(request));
    }
    let argument = |name: &str| match request.args.get(name) {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        _ => Err(Refusal {
            code: code::INVALID_ENVIRONMENT,
            msg: format!("CNI_ARGS has no {name}"),
            details: "Kilter wires pods of Kubernetes only".into(),
        }),
    };
    let name = format!("{}/{}", argument("K8S_POD_NAMESPACE")?, argument("K8S_POD_NAME")?);
    Ok(Add {
        container: request.container_id.clone(),
        pod: Pod { uid: argument("K8S_POD_UID")?.into(), name },
        ifname: request.ifname.clone(),
        netns: request.netns.clone(),
        version: request.config.cni_version.clone(),
    })
}

fn bad_id(request: &Request) -> Refusal {
    Refusal {
        code: code::INVALID_ENVIRONMENT,
        msg: format!("CNI_CONTAINERID is {:?}, which is no container id", request.container_id),
        details: String::new(),
    }
}

fn is_id(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}
