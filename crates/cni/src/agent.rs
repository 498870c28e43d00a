//! One request to the node's agent over its socket.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kilter_wire::cni::code;
use kilter_wire::plugin::{Command, Reply, Request};
use kilter_wire::{LineError, read_message, write_message};

use crate::{Output, error};

/// Longer than any deadline of the agent's own, so that its answer wins.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the agent. That it cannot be reached is never final: it restarts, and the runtime tries again.
/// DEL too has to reach it, because only the agent can cut a pod off and free its address.
pub fn ask(request: &Request) -> Output {
    let socket = request.config.agent_socket.as_deref().unwrap_or_default();
    let answer = exchange(socket, request);
    let version = &request.config.cni_version;
    let unreachable =
        if request.command == Command::Status { code::NOT_AVAILABLE } else { code::TRY_AGAIN_LATER };
    match answer {
        Ok(Some(Reply::Added(result))) => Output::Result(result, request.config.prev_result.clone()),
        Ok(Some(Reply::Done)) => Output::Nothing,
        Ok(Some(Reply::Failed(failure))) => Output::Error(failure),
        Ok(None) => {
            let msg = format!("the agent at {socket} closed the connection without an answer");
            Output::Error(error(version, unreachable, msg, "see the agent's log"))
        }
        Err(LineError::Io(source)) => {
            let msg = format!("the agent at {socket} cannot be reached");
            Output::Error(error(version, unreachable, msg, format!("{source}; is the node's agent running?")))
        }
        Err(malformed) => {
            let msg = format!("the agent at {socket} answered what is no answer");
            let details = format!("{malformed}; are kilter-cni and the agent of one version?");
            Output::Error(error(version, code::DECODE, msg, details))
        }
    }
}

fn exchange(socket: &str, request: &Request) -> Result<Option<Reply>, LineError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write_message(&mut stream, request)?;
    read_message(&mut BufReader::new(stream))
}
