//! What the runtime asks, read from the environment and standard input (SPEC, section 2).

use std::collections::BTreeMap;

use kilter_wire::cni::{CniError, NetConf};
use kilter_wire::plugin::{Command, Request};

use crate::configuration::{self, is_name};
use crate::environment_error;

/// The longest name of a link, in bytes: IFNAMSIZ less the terminator.
const MAX_IFNAME: usize = 15;

/// A valid invocation.
pub struct Invocation {
    pub action: Action,
    pub config: NetConf,
}

/// What to do.
pub enum Action {
    /// Answer with the versions spoken.
    Version,
    /// Ask the agent.
    Ask(Box<Request>),
}

/// Reads an invocation, or says what is wrong with it.
pub fn read(variable: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Invocation, CniError> {
    let config = configuration::read(input)?;
    let command = match variable("CNI_COMMAND").unwrap_or_default().as_str() {
        "VERSION" => return Ok(Invocation { action: Action::Version, config }),
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "GC" => Command::Gc,
        "STATUS" => Command::Status,
        other => {
            return Err(environment_error(
                &config.cni_version,
                format!("CNI_COMMAND is {other:?}, which is no command"),
                "expected ADD, DEL, CHECK, GC, STATUS or VERSION",
            ));
        }
    };
    configuration::check(&config, command)?;
    let request = request(command, &variable, &config)
        .map_err(|(msg, details)| environment_error(&config.cni_version, msg, details))?;
    Ok(Invocation { action: Action::Ask(Box::new(request)), config })
}

/// What is wrong, and what is right.
type Fault = (String, String);

/// With the variables that a command is about checked. GC and STATUS are about no container.
fn request(
    command: Command,
    variable: &impl Fn(&str) -> Option<String>,
    config: &NetConf,
) -> Result<Request, Fault> {
    let get = |name: &str| variable(name).unwrap_or_default();
    let request = Request {
        command,
        container_id: get("CNI_CONTAINERID"),
        netns: get("CNI_NETNS"),
        ifname: get("CNI_IFNAME"),
        args: arguments(&get("CNI_ARGS"))?,
        config: config.clone(),
    };
    if matches!(command, Command::Add | Command::Del | Command::Check) {
        check_attachment(&request)?;
    }
    Ok(request)
}

fn check_attachment(request: &Request) -> Result<(), Fault> {
    if !is_name(&request.container_id) {
        let msg = format!("CNI_CONTAINERID is {:?}, which is no container id", request.container_id);
        return Err((msg, "letters and digits, then also '.', '_' and '-'".into()));
    }
    if !is_ifname(&request.ifname) {
        let msg = format!("CNI_IFNAME is {:?}, which is no name of a link", request.ifname);
        return Err((msg, format!("at most {MAX_IFNAME} bytes without '/', ':' and spaces")));
    }
    // On DEL the namespace may be gone already.
    if request.command != Command::Del && request.netns.is_empty() {
        let details = "ADD and CHECK need the path of the pod's network namespace";
        return Err(("CNI_NETNS is missing".into(), details.into()));
    }
    Ok(())
}

fn is_ifname(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.len() <= MAX_IFNAME
        && !text.chars().any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
}

fn arguments(text: &str) -> Result<BTreeMap<String, String>, Fault> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            ("CNI_ARGS is not KEY=VALUE;KEY=VALUE".to_owned(), format!("{pair:?} has no '='"))
        })?;
        Ok((key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}
