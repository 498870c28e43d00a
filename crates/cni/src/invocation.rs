//! What the runtime asks, read from the environment and standard input (SPEC, section 2).

use std::collections::BTreeMap;

use kilter_wire::cni::{CURRENT_VERSION, CniError, NetConf, code};
use kilter_wire::plugin::{Command, Request};

use crate::{environment_error, error, version};

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
    let command = variable("CNI_COMMAND").unwrap_or_default();
    let config = configuration(input)?;
    let known = config.cni_version.clone();
    let command = match command.as_str() {
        "VERSION" => return Ok(Invocation { action: Action::Version, config }),
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "STATUS" => Command::Status,
        "CHECK" | "GC" => {
            return Err(environment_error(
                &known,
                format!("CNI_COMMAND {command} is not supported by this version of Kilter"),
                "supported: ADD, DEL, STATUS, VERSION",
            ));
        }
        other => {
            return Err(environment_error(
                &known,
                format!("CNI_COMMAND is {other:?}, which is no command"),
                "expected ADD, DEL, STATUS or VERSION",
            ));
        }
    };
    check_configuration(&config, command)?;
    let attachment = Attachment::read(&variable, command)
        .map_err(|(msg, details)| environment_error(&known, msg, details))?;
    let request = Request {
        command,
        container_id: attachment.container_id,
        netns: attachment.netns,
        ifname: attachment.ifname,
        args: arguments(&variable("CNI_ARGS").unwrap_or_default())
            .map_err(|bad| environment_error(&known, "CNI_ARGS is not KEY=VALUE;KEY=VALUE", bad))?,
        config: config.clone(),
    };
    Ok(Invocation { action: Action::Ask(Box::new(request)), config })
}

fn configuration(input: &[u8]) -> Result<NetConf, CniError> {
    let mut config: NetConf = serde_json::from_slice(input).map_err(|e| {
        error("", code::DECODE, "standard input is not a network configuration", e.to_string())
    })?;
    if config.cni_version.is_empty() {
        config.cni_version = CURRENT_VERSION.to_owned();
    }
    Ok(config)
}

fn check_configuration(config: &NetConf, command: Command) -> Result<(), CniError> {
    let version = &config.cni_version;
    if !version::is_supported(version) {
        let supported = kilter_wire::cni::SUPPORTED_VERSIONS.join(", ");
        let msg = format!("cniVersion {version:?} is not supported");
        return Err(error(version, code::INCOMPATIBLE_VERSION, msg, format!("supported: {supported}")));
    }
    if command == Command::Status && !version::at_least(version, "1.1.0") {
        let msg = format!("cniVersion {version} has no STATUS");
        return Err(error(version, code::INCOMPATIBLE_VERSION, msg, "STATUS came with 1.1.0"));
    }
    if !is_name(&config.name) {
        let msg = format!("name is {:?}, which is no name of a network", config.name);
        return Err(error(
            version,
            code::INVALID_CONFIG,
            msg,
            "letters and digits, then also '.', '_' and '-'",
        ));
    }
    if config.agent_socket.as_deref().unwrap_or_default().is_empty() {
        let details = "set agentSocket to the path of the node agent's socket";
        return Err(error(version, code::INVALID_CONFIG, "agentSocket is missing", details));
    }
    match &config.prev_result {
        // On DEL the runtime hands back what ADD returned; on ADD it means that another plugin came first.
        Some(previous) if command == Command::Add => {
            let msg = format!("prevResult is not supported on ADD: {previous}");
            Err(error(
                version,
                code::UNSUPPORTED_FIELD,
                msg,
                "kilter-cni must be the first plugin of its list",
            ))
        }
        _ => Ok(()),
    }
}

/// What to attach to what.
struct Attachment {
    container_id: String,
    netns: String,
    ifname: String,
}

impl Attachment {
    fn read(variable: &impl Fn(&str) -> Option<String>, command: Command) -> Result<Self, (String, String)> {
        let get = |name: &str| variable(name).unwrap_or_default();
        let attachment =
            Self { container_id: get("CNI_CONTAINERID"), netns: get("CNI_NETNS"), ifname: get("CNI_IFNAME") };
        if command == Command::Status {
            return Ok(attachment);
        }
        if !is_name(&attachment.container_id) {
            let msg = format!("CNI_CONTAINERID is {:?}, which is no container id", attachment.container_id);
            return Err((msg, "letters and digits, then also '.', '_' and '-'".into()));
        }
        if !is_ifname(&attachment.ifname) {
            let msg = format!("CNI_IFNAME is {:?}, which is no name of a link", attachment.ifname);
            return Err((msg, format!("at most {MAX_IFNAME} bytes without '/', ':' and spaces")));
        }
        if command == Command::Add && attachment.netns.is_empty() {
            return Err((
                "CNI_NETNS is missing".into(),
                "ADD needs the path of the pod's network namespace".into(),
            ));
        }
        Ok(attachment)
    }
}

/// SPEC: an alphanumeric character, then any of alphanumerics, `_`, `.` and `-`.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_ifname(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.len() <= MAX_IFNAME
        && !text.chars().any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
}

fn arguments(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(';')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no '='"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
