use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use url::Url;

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
    /// `exec`: a program and its arguments.
    Exec(Vec<String>),
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

impl HttpGet {
    /// A GET as it is declared for a container (core/v1 `HTTPGetAction`).
    pub(crate) fn new(declared: &HTTPGetAction, container: &Container) -> Self {
        let headers = declared.http_headers.iter().flatten();
        Self {
            host: declared.host.clone().filter(|host| !host.is_empty()),
            port: port(&declared.port, container),
            path: declared.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into()),
            tls: declared.scheme.as_deref() == Some("HTTPS"),
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
        }
    }

    /// Where it goes, for a pod of this address.
    pub(crate) fn url(&self, pod: IpAddr) -> Result<Url, String> {
        let scheme = if self.tls { "https" } else { "http" };
        let host = match (&self.host, pod) {
            (Some(host), _) => host.clone(),
            (None, IpAddr::V4(ip)) => ip.to_string(),
            (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let text = format!("{scheme}://{host}:{}{slash}{}", self.port.clone()?, self.path);
        Url::parse(&text).map_err(|error| format!("parse {text:?}: {error}"))
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    resolve_port(port, container).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!(
            "port {name:?} is not among the named ports of container {:?}",
            container.name
        ),
    })
}

fn handler(probe: &Probe, container: &Container) -> Option<Handler> {
    if let Some(http) = &probe.http_get {
        return Some(Handler::Http(HttpGet::new(http, container)));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Some(Handler::Tcp {
            host: tcp.host.clone().filter(|host| !host.is_empty()),
            port: port(&tcp.port, container),
        });
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port {}", grpc.port));
        return Some(Handler::Grpc { port, service: grpc.service.clone().unwrap_or_default() });
    }
    probe.exec.as_ref().map(|exec| Handler::Exec(exec.command.clone().unwrap_or_default()))
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
    fn a_get_goes_to_the_pod_unless_it_names_a_host() {
        let table = [
            (json!({"port": 80}), "10.0.0.1", "http://10.0.0.1/"),
            (json!({"port": "8080", "path": "ready?x=1"}), "10.0.0.1", "http://10.0.0.1:8080/ready?x=1"),
            (json!({"port": 443, "scheme": "HTTPS", "path": "//x"}), "fd00::1", "https://[fd00::1]//x"),
            (json!({"port": 80, "host": "shop.example"}), "10.0.0.1", "http://shop.example/"),
        ];
        for (declared, pod, expected) in table {
            let declared = serde_json::from_value(declared).unwrap();
            let get = HttpGet::new(&declared, &Container::default());
            assert_eq!(get.url(pod.parse().unwrap()).unwrap().as_str(), expected);
        }
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
        let Handler::Tcp { port: Err(why), .. } = &unknown[0].handler else { panic!("{unknown:?}") };
        assert_eq!(why, "port \"nope\" is not among the named ports of container \"c\"");
    }
}
