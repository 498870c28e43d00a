use serde_json::Value;

use super::text::{age, items, joined, name, or_none};
use super::{Printer, column, wide};

pub static NODES: Printer = Printer {
    columns: &[
        column("Name"),
        column("Status"),
        column("Roles"),
        column("Age"),
        column("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells: |v, now| {
        let info = &v["status"]["nodeInfo"];
        let known = |value: &Value| match value.as_str() {
            None | Some("") => Value::from("<unknown>"),
            Some(text) => text.into(),
        };
        vec![
            name(v),
            readiness(v).into(),
            roles(v).into(),
            age(v, now),
            info["kubeletVersion"].as_str().unwrap_or_default().into(),
            address(v, "InternalIP"),
            address(v, "ExternalIP"),
            known(&info["osImage"]),
            known(&info["kernelVersion"]),
            known(&info["containerRuntimeVersion"]),
        ]
    },
};

fn readiness(node: &Value) -> String {
    let ready = items(&node["status"]["conditions"]).find(|c| c["type"] == "Ready");
    let word = match ready.map(|c| c["status"].as_str().unwrap_or_default()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if node["spec"]["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
    format!("{word}{cordoned}")
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    joined(labels.filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => (!role.is_empty()).then_some(role),
        None if key == "kubernetes.io/role" => value.as_str().filter(|v| !v.is_empty()),
        None => None,
    }))
}

fn address(node: &Value, kind: &str) -> Value {
    let found = items(&node["status"]["addresses"]).find(|a| a["type"] == kind);
    or_none(found.map_or(&Value::Null, |a| &a["address"]))
}

pub static NAMESPACES: Printer = Printer {
    columns: &[column("Name"), column("Status"), column("Age")],
    cells: |v, now| vec![name(v), v["status"]["phase"].clone(), age(v, now)],
};

pub static CLAIMS: Printer = Printer {
    columns: &[
        column("Name"),
        column("Status"),
        column("Volume"),
        column("Capacity"),
        column("Access Modes"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        column("Age"),
        wide("VolumeMode"),
    ],
    cells: |v, now| {
        let (spec, status) = (&v["spec"], &v["status"]);
        let or_empty = |value: &Value| Value::from(value.as_str().unwrap_or_default());
        let modes = items(&status["accessModes"]).map(|m| match m.as_str().unwrap_or_default() {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            _ => "RWOP",
        });
        vec![
            name(v),
            or_empty(&status["phase"]),
            or_empty(&spec["volumeName"]),
            or_empty(&status["capacity"]["storage"]),
            modes.collect::<Vec<_>>().join(",").into(),
            or_empty(&spec["storageClassName"]),
            match spec["volumeAttributesClassName"].as_str() {
                Some(class) => class.into(),
                None => "<unset>".into(),
            },
            age(v, now),
            spec["volumeMode"].as_str().unwrap_or("Filesystem").into(),
        ]
    },
};
