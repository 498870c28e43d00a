//! Answers as JSON, in the version that the runtime asked for.

use kilter_wire::cni::{CniError, CniResult, SUPPORTED_VERSIONS};
use serde_json::{Value, json};

use crate::{previous, version};

/// The answer to VERSION; `cniVersion` is the one that was asked in.
pub fn versions(asked: &str) -> String {
    json!({ "cniVersion": asked, "supportedVersions": SUPPORTED_VERSIONS }).to_string()
}

/// The result of ADD, behind that of the plugin before. Before 1.0.0 each address says its family;
/// before 1.1.0 interfaces have no MTU.
pub fn result(result: &CniResult, before: Option<&Value>) -> String {
    let mut json = json!(result);
    let older_than = |wanted| !version::at_least(&result.cni_version, wanted);
    if older_than("1.0.0") {
        for ip in list(&mut json, "ips") {
            let family = if ip["address"].as_str().is_some_and(|a| a.contains(':')) { "6" } else { "4" };
            ip["version"] = family.into();
        }
    }
    if older_than("1.1.0") {
        for interface in list(&mut json, "interfaces") {
            interface.as_object_mut().map(|fields| fields.remove("mtu"));
        }
    }
    match before {
        Some(before) => previous::extend(before.clone(), json).to_string(),
        None => json.to_string(),
    }
}

/// A failure.
pub fn error(error: &CniError) -> String {
    json!(error).to_string()
}

fn list<'a>(json: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    json.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}
