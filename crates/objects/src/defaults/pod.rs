use serde_json::{Value, json};

use super::quantities::{quantity, resource_list};
use super::{Fields, child, children, made, set, text};

/// The defaults of a pod's, or a pod template's, `spec`.
pub(super) fn spec(spec: &mut Fields) {
    set(spec, "restartPolicy", "Always");
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "securityContext", json!({}));
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for it in children(spec, list) {
            container(it, host_network);
        }
    }
    for it in children(spec, "volumes") {
        volume(it);
    }
}

/// The template at `spec.template`.
pub(super) fn template(workload_spec: &mut Fields) {
    if let Some(it) = child(workload_spec, "template").and_then(|t| child(t, "spec")) {
        spec(it);
    }
}

fn container(container: &mut Fields, host_network: bool) {
    let policy = if pulls_always(text(container, "image")) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", policy);
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    if let Some(resources) = made(container, "resources") {
        resource_list(resources);
    }
    for port in children(container, "ports") {
        set(port, "protocol", "TCP");
        if let (true, Some(number)) = (host_network, port.get("containerPort").cloned()) {
            set(port, "hostPort", number);
        }
    }
    for variable in children(container, "env") {
        if let Some(reference) = child(variable, "valueFrom").and_then(|v| child(v, "fieldRef")) {
            set(reference, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(it) = child(container, name) {
            probe(it);
        }
    }
    if let Some(lifecycle) = child(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(it) = child(lifecycle, hook) {
                http_get(it);
            }
        }
    }
}

/// No tag means `latest`, and `latest` is pulled each time; a digest never moves.
fn pulls_always(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

fn probe(probe: &mut Fields) {
    set(probe, "timeoutSeconds", 1);
    set(probe, "periodSeconds", 10);
    set(probe, "successThreshold", 1);
    set(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = child(probe, "grpc") {
        set(grpc, "service", "");
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = child(handler, "httpGet") {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Fields) {
    if volume.keys().all(|key| key == "name") {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(it) = child(volume, source) {
            set(it, "defaultMode", 0o644);
        }
    }
    if let Some(it) = child(volume, "hostPath") {
        set(it, "type", "");
    }
    if let Some(size) = child(volume, "emptyDir").and_then(|e| e.get_mut("sizeLimit")) {
        quantity(size);
    }
}

/// Requests that are not given are the limits (a Pod's default, not a template's).
pub(super) fn requests_from_limits(spec: &mut Fields) {
    for list in ["containers", "initContainers"] {
        for container in children(spec, list) {
            let Some(resources) = child(container, "resources") else { continue };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { continue };
            let Some(requests) = made(resources, "requests") else { continue };
            for (name, limit) in limits {
                set(requests, &name, limit);
            }
        }
    }
}

/// The defaults of a StatefulSet's claim template.
pub(super) fn claim(claim: &mut Fields) {
    let Some(spec) = child(claim, "spec") else { return };
    set(spec, "volumeMode", "Filesystem");
    if let Some(resources) = child(spec, "resources") {
        resource_list(resources);
    }
}
