use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names;
use super::report::Report;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// A container at `path`; `init` when it ends before the others start. Volume mounts are compared
/// with `volumes` where those are known.
pub(super) fn container(
    report: &mut Report,
    path: &str,
    container: &core::Container,
    init: bool,
    host_network: bool,
    volumes: Option<&BTreeSet<&str>>,
) {
    let at = |field: &str| format!("{path}.{field}");
    if container.name.is_empty() {
        report.required(&at("name"), "");
    } else if let Err(why) = names::label(&container.name) {
        report.invalid(&at("name"), &container.name, why);
    }
    if container.image.as_deref().is_none_or(|i| i.trim().is_empty()) {
        report.required(&at("image"), "");
    }
    ports(report, path, container.ports.as_deref().unwrap_or_default(), host_network);
    for (name, probe, liveness) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        let Some(it) = probe else { continue };
        if init {
            report.forbidden(&at(name), "may not be set for init containers without restartPolicy=Always");
        }
        self::probe(report, &at(name), it, liveness);
    }
    for (i, variable) in container.env.iter().flatten().enumerate() {
        if variable.name.is_empty() {
            report.required(&format!("{path}.env[{i}].name"), "");
        }
        if variable.value.as_deref().is_some_and(|v| !v.is_empty()) && variable.value_from.is_some() {
            report.invalid(
                &format!("{path}.env[{i}].valueFrom"),
                "",
                "may not be specified when `value` is not empty",
            );
        }
    }
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        if volumes.is_some_and(|v| !v.contains(mount.name.as_str())) {
            report.not_found(&format!("{path}.volumeMounts[{i}].name"), &mount.name);
        }
    }
}

/// `8080/TCP`.
pub(super) fn port_text(port: &core::ContainerPort) -> String {
    format!("{}/{}", port.container_port, port.protocol.as_deref().unwrap_or("TCP"))
}

fn ports(report: &mut Report, path: &str, ports: &[core::ContainerPort], host_network: bool) {
    let mut named = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("{path}.ports[{i}].{field}");
        if port.container_port == 0 {
            report.required(&at("containerPort"), "");
        } else {
            report.port_number(&at("containerPort"), port.container_port);
        }
        report.one_of(&at("protocol"), port.protocol.as_deref(), PROTOCOLS);
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            if let Err(why) = names::port_name(name) {
                report.invalid(&at("name"), name, why);
            } else if !named.insert(name) {
                report.duplicate(&at("name"), name);
            }
        }
        if let Some(host) = port.host_port.filter(|p| *p != 0) {
            report.port_number(&at("hostPort"), host);
            if host_network && host != port.container_port {
                report.invalid(
                    &at("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

fn probe(report: &mut Report, path: &str, probe: &core::Probe, liveness: bool) {
    let at = |field: &str| format!("{path}.{field}");
    let handlers =
        [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    match handlers.iter().filter(|h| **h).count() {
        0 => report.required(path, "must specify a handler type"),
        1 => {}
        _ => report.forbidden(path, "may not specify more than 1 handler type"),
    }
    report.at_least(&at("initialDelaySeconds"), probe.initial_delay_seconds, 0);
    report.at_least(&at("timeoutSeconds"), probe.timeout_seconds, 0);
    report.at_least(&at("periodSeconds"), probe.period_seconds, 0);
    report.at_least(&at("successThreshold"), probe.success_threshold, 0);
    report.at_least(&at("failureThreshold"), probe.failure_threshold, 0);
    if liveness && probe.success_threshold.is_some_and(|n| n > 1) {
        report.invalid(&at("successThreshold"), probe.success_threshold.unwrap_or_default(), "must be 1");
    }
    if let Some(get) = &probe.http_get {
        port(report, &at("httpGet.port"), &get.port);
        report.one_of(&at("httpGet.scheme"), get.scheme.as_deref(), &["HTTP", "HTTPS"]);
    }
    if let Some(socket) = &probe.tcp_socket {
        port(report, &at("tcpSocket.port"), &socket.port);
    }
    if let Some(grpc) = &probe.grpc {
        report.port_number(&at("grpc.port"), grpc.port);
    }
    if probe.exec.as_ref().is_some_and(|e| e.command.as_ref().is_none_or(Vec::is_empty)) {
        report.required(&at("exec.command"), "");
    }
}

/// A port by number or by name.
pub(super) fn port(report: &mut Report, path: &str, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => report.port_number(path, *number),
        IntOrString::String(name) => {
            if let Err(why) = names::port_name(name) {
                report.invalid(path, name, why);
            }
        }
    }
}
