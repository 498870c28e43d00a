//! What must be right in the network configuration on standard input (SPEC, sections 1 and 2).

use kilter_wire::cni::{CURRENT_VERSION, CniError, NetConf, SUPPORTED_VERSIONS, code};
use kilter_wire::plugin::Command;

use crate::{error, previous, version};

/// Reads a configuration.
pub fn read(input: &[u8]) -> Result<NetConf, CniError> {
    let mut config: NetConf = serde_json::from_slice(input).map_err(|e| {
        error("", code::DECODE, "standard input is not a network configuration", e.to_string())
    })?;
    if config.cni_version.is_empty() {
        config.cni_version = CURRENT_VERSION.to_owned();
    }
    Ok(config)
}

/// Whether a command can be served with this configuration.
pub fn check(config: &NetConf, command: Command) -> Result<(), CniError> {
    check_version(&config.cni_version, command)?;
    let invalid = |msg: String, details: &str| error(&config.cni_version, code::INVALID_CONFIG, msg, details);
    if !is_name(&config.name) {
        let msg = format!("name is {:?}, which is no name of a network", config.name);
        return Err(invalid(msg, "letters and digits, then also '.', '_' and '-'"));
    }
    if config.agent_socket.as_deref().unwrap_or_default().is_empty() {
        let details = "set agentSocket to the path of the node agent's socket";
        return Err(invalid("agentSocket is missing".into(), details));
    }
    if let Some(result) = &config.prev_result {
        previous::check(result).map_err(|fault| {
            invalid(format!("prevResult is no result: {fault}"), "it must be what the plugin before printed")
        })?;
    }
    match command {
        Command::Check if config.prev_result.is_none() => Err(invalid(
            "prevResult is missing".into(),
            "CHECK compares the container with what ADD returned",
        )),
        // Without the list nobody could be told from the dead, and with no one on it all would go.
        Command::Gc if config.valid_attachments.is_none() => Err(invalid(
            "cni.dev/valid-attachments is missing".into(),
            "GC removes every attachment that is not listed; an empty list removes all",
        )),
        _ => Ok(()),
    }
}

fn check_version(version: &str, command: Command) -> Result<(), CniError> {
    if !version::is_supported(version) {
        let msg = format!("cniVersion {version:?} is not supported");
        let details = format!("supported: {}", SUPPORTED_VERSIONS.join(", "));
        return Err(error(version, code::INCOMPATIBLE_VERSION, msg, details));
    }
    if matches!(command, Command::Gc | Command::Status) && !version::at_least(version, "1.1.0") {
        let msg = format!("cniVersion {version} has neither GC nor STATUS");
        return Err(error(version, code::INCOMPATIBLE_VERSION, msg, "they came with 1.1.0"));
    }
    Ok(())
}

/// SPEC: an alphanumeric character, then any of alphanumerics, `_`, `.` and `-`.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}
