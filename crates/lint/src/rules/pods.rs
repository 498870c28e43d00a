//! KLT020 and KLT021: what cannot work within one pod.

use std::collections::BTreeMap;

use kilter_manifests::Object;
use kilter_objects::expand::pod_template_pointer;
use kilter_objects::value;
use serde_json::Value;

use crate::Finding;
use crate::context::{Context, title};
use crate::finding::{PORT_TWICE, PROBE_PORT_UNDECLARED};

const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

pub fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut found = vec![];
    for object in context.objects() {
        let containers = containers(&object.value);
        found.extend(ports_twice(context, object, &containers));
        for (pointer, container) in &containers {
            found.extend(probes(context, object, pointer, container));
        }
    }
    found
}

/// The containers that run side by side, sidecars included, with their JSON pointers.
pub fn containers(object: &Value) -> Vec<(String, &Value)> {
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let Some(template) = pod_template_pointer(api_version, value::kind(object)) else { return vec![] };
    let mut found = vec![];
    for field in ["containers", "initContainers"] {
        let list = object.pointer(&format!("{template}/spec/{field}")).and_then(Value::as_array);
        for (i, container) in list.into_iter().flatten().enumerate() {
            let sidecar = container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
            if field == "containers" || sidecar {
                found.push((format!("{template}/spec/{field}/{i}"), container));
            }
        }
    }
    found
}

fn name(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn ports(container: &Value) -> impl Iterator<Item = (usize, &Value)> {
    container.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// All containers of a pod share one network namespace: one port, one listener.
fn ports_twice(context: &Context<'_>, object: &Object, containers: &[(String, &Value)]) -> Vec<Finding> {
    let mut first: BTreeMap<(u64, &str), &str> = BTreeMap::new();
    let mut found = vec![];
    for (pointer, container) in containers {
        for (i, port) in ports(container) {
            let Some(number) = port.get("containerPort").and_then(Value::as_u64) else { continue };
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            let other = *first.entry((number, protocol)).or_insert(name(container));
            if other == name(container) {
                continue;
            }
            let message = format!(
                "containers {other} and {} of {} both listen on {protocol} {number}, and share one network",
                name(container),
                title(&object.value)
            );
            let place = context.at(object, &format!("{pointer}/ports/{i}/containerPort"));
            found.push(Finding::new(&PORT_TWICE, place, &title(&object.value), message));
        }
    }
    found
}

/// A port's name that the container does not declare never resolves (core/v1 `HTTPGetAction.port`).
fn probes(context: &Context<'_>, object: &Object, pointer: &str, container: &Value) -> Vec<Finding> {
    let mut found = vec![];
    for probe in PROBES {
        for action in ["httpGet", "tcpSocket"] {
            let field = format!("{probe}/{action}/port");
            let Some(wanted) = container.pointer(&format!("/{field}")).and_then(Value::as_str) else {
                continue;
            };
            let declared = |it: (usize, &Value)| it.1.get("name").and_then(Value::as_str) == Some(wanted);
            if wanted.parse::<u16>().is_ok() || ports(container).any(declared) {
                continue;
            }
            let names: Vec<&str> =
                ports(container).filter_map(|(_, it)| it.get("name").and_then(Value::as_str)).collect();
            let message = format!(
                "the {probe} of container {} of {} always fails: it names port {wanted}, and the container \
                 declares {}",
                name(container),
                title(&object.value),
                if names.is_empty() { "no port names".to_owned() } else { names.join(", ") }
            );
            let place = context.at(object, &format!("{pointer}/{field}"));
            found.push(Finding::new(&PROBE_PORT_UNDECLARED, place, &title(&object.value), message));
        }
    }
    found
}
