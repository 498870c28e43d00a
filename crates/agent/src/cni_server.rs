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

use crate::check::Check;
use crate::command::{Claim, Command, Pod, Refusal};
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
    serve_request(request, wiring).await.unwrap_or_else(|refusal| {
        tracing::warn!(container = %request.container_id, error = %refusal.details, "{:?}: {}", request.command, refusal.msg);
        Reply::Failed(failure(&request.config, refusal))
    })
}

async fn serve_request(request: &Request, wiring: &Wiring) -> Result<Reply, Refusal> {
    match request.command {
        PluginCommand::Add => {
            let add = add_of(request)?;
            let result = wiring.add(&add).await?;
            let Claim { pod, container, .. } = &add.claim;
            let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.as_str()).collect();
            tracing::info!(pod = %pod.name, %container, ?addresses, "wired");
            return Ok(Reply::Added(result));
        }
        PluginCommand::Del => wiring.del(container_of(request)?).await?,
        PluginCommand::Check => wiring.check(&check_of(request)?).await?,
        PluginCommand::Gc => {
            let missing = || invalid("cni.dev/valid-attachments is missing", "GC needs to know who lives");
            let valid = request.config.valid_attachments.as_ref().ok_or_else(missing)?;
            wiring.collect(&request.config.name, valid).await?;
        }
        PluginCommand::Status => status(wiring).await?,
    }
    Ok(Reply::Done)
}

fn failure(config: &NetConf, refusal: Refusal) -> CniError {
    let Refusal { code, msg, details } = refusal;
    CniError { cni_version: config.cni_version.clone(), code, msg, details }
}

async fn status(wiring: &Wiring) -> Result<(), Refusal> {
    let refusal = |code, details: &str| Refusal {
        code,
        msg: "the agent cannot wire pods now".into(),
        details: details.into(),
    };
    let stopping = |_| refusal(code::NOT_AVAILABLE, "it is stopping");
    let status = wiring.ask(Command::Status).await.map_err(stopping)?;
    match status.ready {
        true => Ok(()),
        // Versions are published once the kernel holds what the whole cluster asks for.
        false if status.applied.is_empty() => {
            Err(refusal(code::NOT_AVAILABLE, "it has not seen the whole cluster yet"))
        }
        false => Err(refusal(
            code::LIMITED_CONNECTIVITY,
            "the kernel refuses its rows or routes, so changes do not reach the pods that run; see the agent's log",
        )),
    }
}

/// Checks again what the plugin checked: the container's id becomes a file name.
fn container_of(request: &Request) -> Result<&str, Refusal> {
    let id = request.container_id.as_str();
    let is_id = id.len() <= 200
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    match is_id {
        true => Ok(id),
        false => Err(Refusal {
            code: code::INVALID_ENVIRONMENT,
            msg: format!("CNI_CONTAINERID is {id:?}, which is no container id"),
            details: String::new(),
        }),
    }
}

fn add_of(request: &Request) -> Result<Add, Refusal> {
    let argument = |name: &str| match request.args.get(name) {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        _ => Err(Refusal {
            code: code::INVALID_ENVIRONMENT,
            msg: format!("CNI_ARGS has no {name}"),
            details: "Kilter wires pods of Kubernetes only".into(),
        }),
    };
    let name = format!("{}/{}", argument("K8S_POD_NAMESPACE")?, argument("K8S_POD_NAME")?);
    let claim = Claim {
        container: container_of(request)?.to_owned(),
        network: request.config.name.clone(),
        ifname: request.ifname.clone(),
        netns: request.netns.clone(),
        pod: Pod { uid: argument("K8S_POD_UID")?.into(), name },
    };
    Ok(Add { claim, version: request.config.cni_version.clone() })
}

fn check_of(request: &Request) -> Result<Check, Refusal> {
    let result = request.config.prev_result.clone().unwrap_or_default();
    let result = serde_json::from_value(result)
        .map_err(|error| invalid("prevResult is no result of a plugin", &error.to_string()))?;
    Ok(Check {
        container: container_of(request)?.to_owned(),
        ifname: request.ifname.clone(),
        netns: request.netns.clone(),
        result,
    })
}

fn invalid(msg: &str, details: &str) -> Refusal {
    Refusal { code: code::INVALID_CONFIG, msg: msg.into(), details: details.into() }
}
