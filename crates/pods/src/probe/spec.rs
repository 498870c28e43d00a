use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

use crate::standin::resolve_port;

/// Which of a container's three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Until it succeeds, the other two wait.
    Startup,
    /// Its failure restarts the container.
    Liveness,
    /// Its failure takes the pod out of its Services.
    Readiness,
}

impl Kind {
    /// As in `kilter.dev/fail` and in the header that marks a probe.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Startup => "startup",
            Kind::Liveness => "liveness",
            Kind::Readiness => "readiness",
        }
    }
}

impl fmt::Display for Kind {
    /// As in the kubelet's events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        })
    }
}

/// A probe with every default filled in (core/v1 `Probe`).
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeSpec {
    /// Which of the three.
    pub kind: Kind,
    /// What is done.
    pub handler: Handler,
    /// Time to wait after the container has started.
    pub initial_delay: Duration,
    /// Between attempts.
    pub period: Duration,
    /// For one attempt.
    pub timeout: Duration,
    /// Consecutive successes needed after a failure.
    pub success_threshold: u32,
    /// Consecutive failures needed after a success.
    pub failure_threshold: u32,
    /// Overrides the pod's, when this probe's failure ends the container.
    pub grace: Option<Duration>,
}

/// How a container is asked. Ports are numbers by now.
#[derive(Debug, Clone, PartialEq)]
pub enum Handler {
    /// `httpGet`.
    Http(HttpGet),
    /// `tcpSocket`.
    Tcp {
        /// Instead of the pod's address.
        host: Option<String>,
        /// The port; an error when a name means nothing.
        port: Result<u16, String>,
    },
    /// `grpc`.
    Grpc {
        /// The port.
        port: Result<u16, String>,
        /// `HealthCheckRequest.service`.
        service: String,
    },
    /// `exec`. A stand-in has no such program: it succeeds unless told to fail.
    Exec,
}

/// `httpGet`, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpGet {
    /// Instead of the pod's address.
    pub host: Option<String>,
    /// The port; an error when a name means nothing.
    pub port: Result<u16, String>,
    /// Path and query.
    pub path: String,
    /// Whether over TLS, unverified.
    pub tls: bool,
    /// Headers to send.
    pub headers: Vec<(String, String)>,
}

impl ProbeSpec {
    /// The probes that a container declares.
    pub fn of(container: &Container) -> Vec<ProbeSpec> {
        [
            (Kind::Startup, &container.startup_probe),
            (Kind::Liveness, &container.liveness_probe),
            (Kind::Readiness, &container.readiness_probe),
        ]
        .into_iter()
        .filter_map(|(kind, probe)| Self::new(kind, probe.as_ref()?, container))
        .collect()
    }

    fn new(kind: Kind, probe: &Probe, container: &Container) -> Option<Self> {
        let seconds = |value: Option<i32>, default: u64, least: u64| {
            // Zero is "not given" in Go's encoding.
            let given = value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
            Duration::from_secs(given.unwrap_or(default).max(least))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        let grace = probe.termination_grace_period_seconds.and_then(|v| u64::try_from(v).ok());
        Some(Self {
            kind,
            handler: handler(probe, container)?,
            initial_delay: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds, 10, 1),
            timeout: seconds(probe.timeout_seconds, 1, 1),
            success_threshold: if kind == Kind::Readiness { count(probe.success_threshold, 1) } else { 1 },
            failure_threshold: count(probe.failure_threshold, 3),
            grace: grace.map(Duration::from_secs),
        })
    }
}

fn handler(probe: &Probe, container: &Container) -> Option<Handler> {
    let port = |port| resolve_port(port, container).ok_or_else(|| format!("invalid port {port:?}"));
    if let Some(http) = &probe.http_get {
        let headers = http.http_headers.iter().flatten();
        return Some(Handler::Http(HttpGet {
            host: http.host.clone().filter(|host| !host.is_empty()),
            port: port(&http.port),
            path: http.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into()),
            tls: http.scheme.as_deref() == Some("HTTPS"),
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
        }));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Some(Handler::Tcp {
            host: tcp.host.clone().filter(|host| !host.is_empty()),
            port: port(&tcp.port),
        });
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port {}", grpc.port));
        return Some(Handler::Grpc { port, service: grpc.service.clone().unwrap_or_default() });
    }
    probe.exec.as_ref().map(|_| Handler::Exec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn specs(container: serde_json::Value) -> Vec<ProbeSpec> {
        ProbeSpec::of(&serde_json::from_value(container).unwrap())
    }

    #[test]
    fn defaults_are_those_of_the_api() {
        let [liveness] = &specs(json!({"name": "c", "livenessProbe": {"httpGet": {"port": 80}}}))[..] else {
            panic!("one probe")
        };
        let expected = ProbeSpec {
            kind: Kind::Liveness,
            handler: Handler::Http(HttpGet {
                host: None,
                port: Ok(80),
                path: "/".into(),
                tls: false,
                headers: vec![],
            }),
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
            grace: None,
        };
        assert_eq!(*liveness, expected);
    }

    #[test]
    fn named_ports_are_the_containers_own_and_only_readiness_has_a_success_threshold() {
        let probe = json!({"tcpSocket": {"port": "db"}, "successThreshold": 4, "failureThreshold": 2,
            "periodSeconds": 7, "timeoutSeconds": 0, "initialDelaySeconds": 30});
        let found = specs(json!({"name": "c", "ports": [{"name": "db", "containerPort": 5432}],
            "livenessProbe": probe, "readinessProbe": probe}));
        let thresholds: Vec<_> =
            found.iter().map(|p| (p.kind, p.success_threshold, p.failure_threshold)).collect();
        assert_eq!(thresholds, [(Kind::Liveness, 1, 2), (Kind::Readiness, 4, 2)]);
        assert_eq!(found[0].handler, Handler::Tcp { host: None, port: Ok(5432) });
        assert_eq!(
            (found[0].period.as_secs(), found[0].timeout.as_secs(), found[0].initial_delay.as_secs()),
            (7, 1, 30)
        );
        let unknown = specs(json!({"name": "c", "readinessProbe": {"tcpSocket": {"port": "nope"}}}));
        assert!(matches!(&unknown[0].handler, Handler::Tcp { port: Err(_), .. }));
    }
}
