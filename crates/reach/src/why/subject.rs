//! What people name at the two ends of a question.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use kilter_model::{Cluster, NamespacedName, Pod, Protocol, Service, ServicePort, Uid};

/// One end of a question, found in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A workload's pods, or one pod; never empty.
    Pods {
        /// `namespace/name[Kind]`.
        title: String,
        /// Those that differ in what policies see; replicas are asked about once.
        pods: Vec<Uid>,
    },
    /// A Service, which stands for its pods.
    Service(NamespacedName),
    /// One address.
    Address(IpAddr),
    /// Every address outside the cluster.
    Internet,
    /// A node.
    Node(Arc<str>),
}

/// A destination's port as typed: `:PORT[/PROTO]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// A number, or the name of a container's or a Service's port.
    pub port: PortText,
    /// TCP where none is given.
    pub protocol: Protocol,
}

/// See [`Port`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortText {
    /// 1 to 65535.
    Number(u16),
    /// By name.
    Name(String),
}

impl Port {
    /// Whether a Service's port is meant.
    pub(super) fn is_of(&self, port: &ServicePort) -> bool {
        let is_called = match &self.port {
            PortText::Number(number) => port.port == *number,
            PortText::Name(name) => *port.name == **name,
        };
        port.protocol == self.protocol && is_called
    }
}

/// Why a name says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// Nothing is called so.
    NotFound {
        /// As typed.
        text: String,
        /// What is called nearly so.
        near: Vec<String>,
    },
    /// Several are called so.
    Ambiguous {
        /// As typed.
        text: String,
        /// Each of them, in full.
        candidates: Vec<String>,
    },
    /// Not of any form that names something.
    Malformed {
        /// As typed.
        text: String,
        /// What is wrong with it.
        message: String,
    },
}

impl std::error::Error for NameError {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::NotFound { text, near } if near.is_empty() => {
                write!(f, "{text}: nothing is called so; `kilter connections` lists all workloads")
            }
            NameError::NotFound { text, near } => {
                write!(f, "{text}: nothing is called so; did you mean {}?", near.join(" or "))
            }
            NameError::Ambiguous { text, candidates } => {
                write!(f, "{text}: {} are called so; name one of them in full", candidates.join(" and "))
            }
            NameError::Malformed { text, message } => write!(f, "{text}: {message}"),
        }
    }
}

/// A destination as typed: what is before the port, and the port.
///
/// # Errors
/// A port or a protocol that is none.
pub fn split_port(text: &str) -> Result<(&str, Option<Port>), NameError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    let Some((subject, port)) = text.rsplit_once(':') else { return Ok((text, None)) };
    let malformed = |message: String| NameError::Malformed { text: text.to_owned(), message };
    let (port, protocol) = port.split_once('/').unwrap_or((port, "TCP"));
    let protocol = Protocol::from_str(&protocol.to_uppercase())
        .map_err(|()| malformed(format!("{protocol:?} is not a protocol: TCP, UDP or SCTP")))?;
    let port = match port.parse::<u16>() {
        Ok(0) => return Err(malformed("0 is not a port: 1 to 65535".into())),
        Ok(number) => PortText::Number(number),
        Err(_) if port.is_empty() || port.bytes().all(|it| it.is_ascii_digit()) => {
            return Err(malformed(format!("{port:?} is not a port: 1 to 65535, or a name")));
        }
        Err(_) => PortText::Name(port.to_owned()),
    };
    Ok((subject.trim_start_matches('[').trim_end_matches(']'), Some(Port { port, protocol })))
}

/// Finds what a person named: `[NAMESPACE/]WORKLOAD`, `pod/X`, `svc/X`, `deploy/X`..., `node/X`, an
/// address or `internet`. A namespace may stand before the kind or before the name.
///
/// # Errors
/// Nothing of that name, or several things.
pub fn find(cluster: &Cluster, text: &str) -> Result<Subject, NameError> {
    if text == "internet" {
        return Ok(Subject::Internet);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let has = |it: &&Service| {
            it.cluster_ips.contains(&address) || it.exposure.addresses().any(|outside| outside == address)
        };
        let service = cluster.services().find(has);
        return Ok(service.map_or(Subject::Address(address), |it| Subject::Service(it.name.clone())));
    }
    let wanted = Wanted::parse(text)?;
    match wanted.kind.as_deref() {
        Some("Node") => node(cluster, &wanted),
        Some("Service") => service(cluster, &wanted),
        _ => pods(cluster, &wanted),
    }
}

/// A name taken apart.
struct Wanted<'a> {
    text: &'a str,
    kind: Option<String>,
    namespace: Option<&'a str>,
    name: &'a str,
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let of = |kind, namespace, name| Self { text, kind, namespace, name };
        let malformed = |message: &str| NameError::Malformed { text: text.into(), message: message.into() };
        if parts.iter().any(|it| it.is_empty()) {
            return Err(malformed("a name is missing"));
        }
        match (parts.as_slice(), parts.first().and_then(|it| kind(it))) {
            ([name], _) => Ok(of(None, None, *name)),
            ([_, name], Some(kind)) => Ok(of(Some(kind), None, *name)),
            ([namespace, name], None) => Ok(of(None, Some(*namespace), *name)),
            ([_, namespace, name], Some(kind)) => Ok(of(Some(kind), Some(*namespace), *name)),
            ([namespace, middle, name], None) => match kind(middle) {
                Some(kind) => Ok(of(Some(kind), Some(*namespace), *name)),
                None => Err(malformed("the middle is no kind: pod, svc, deploy, sts, ds, job, cronjob")),
            },
            _ => Err(malformed("expected [NAMESPACE/]NAME, KIND/NAME or NAMESPACE/KIND/NAME")),
        }
    }

    fn fits(&self, name: &NamespacedName) -> bool {
        self.namespace.is_none_or(|it| *it == *name.namespace) && *name.name == *self.name
    }

    fn not_found<'n>(&self, names: impl IntoIterator<Item = &'n NamespacedName>, prefix: &str) -> NameError {
        let mut near: Vec<(f64, String)> = names
            .into_iter()
            .map(|it| (strsim::jaro_winkler(self.name, &it.name), format!("{prefix}{it}")))
            .filter(|(likeness, _)| *likeness > 0.75)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.dedup_by(|a, b| a.1 == b.1);
        NameError::NotFound {
            text: self.text.to_owned(),
            near: near.into_iter().take(3).map(|(_, name)| name).collect(),
        }
    }
}

/// A kind by the words that kubectl takes.
fn kind(word: &str) -> Option<String> {
    const WORDS: [(&str, &[&str]); 10] = [
        ("Pod", &["pod", "pods", "po"]),
        ("Service", &["svc", "service", "services"]),
        ("Node", &["node", "nodes", "no"]),
        ("Deployment", &["deploy", "deployment", "deployments"]),
        ("StatefulSet", &["sts", "statefulset", "statefulsets"]),
        ("DaemonSet", &["ds", "daemonset", "daemonsets"]),
        ("ReplicaSet", &["rs", "replicaset", "replicasets"]),
        ("Job", &["job", "jobs"]),
        ("CronJob", &["cj", "cronjob", "cronjobs"]),
        ("ReplicationController", &["rc", "replicationcontroller"]),
    ];
    WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(kind, _)| (*kind).to_owned())
}

fn node(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<Subject, NameError> {
    if let Some(node) = cluster.node(wanted.name) {
        return Ok(Subject::Node(node.name.clone()));
    }
    let names: Vec<NamespacedName> =
        cluster.nodes().map(|it| NamespacedName::new("", it.name.clone())).collect();
    Err(wanted.not_found(&names, "node/"))
}

fn service(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<Subject, NameError> {
    let found: Vec<_> = cluster.services().map(|it| &it.name).filter(|it| wanted.fits(it)).collect();
    match found.as_slice() {
        [] => Err(wanted.not_found(cluster.services().map(|it| &it.name), "svc/")),
        [one] => Ok(Subject::Service((*one).clone())),
        several => Err(NameError::Ambiguous {
            text: wanted.text.to_owned(),
            candidates: several.iter().map(|it| format!("svc/{it}")).collect(),
        }),
    }
}

fn pods(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<Subject, NameError> {
    let alive = || cluster.pods().filter(|it| it.owns_addresses());
    let of_kind = |pod: &Pod| wanted.kind.as_deref().is_none_or(|it| *it == *pod.owner.kind);
    let only_pods = wanted.kind.as_deref() == Some("Pod");
    let owners: BTreeSet<_> =
        alive().filter(|pod| wanted.fits(&pod.owner.name) && of_kind(pod)).map(|pod| &pod.owner).collect();
    match owners.iter().collect::<Vec<_>>().as_slice() {
        [] => {}
        [owner] => {
            let pods = distinct(alive().filter(|it| it.owner == ***owner));
            return Ok(Subject::Pods { title: owner.to_string(), pods });
        }
        several => {
            let candidates = several.iter().map(|it| it.to_string()).collect();
            return Err(NameError::Ambiguous { text: wanted.text.to_owned(), candidates });
        }
    }
    // A single pod of a workload, by its own name.
    let own: Vec<&Pod> = alive().filter(|it| wanted.fits(&it.name)).collect();
    match own.as_slice() {
        [pod] if only_pods || wanted.kind.is_none() => {
            Ok(Subject::Pods { title: format!("{}[Pod]", pod.name), pods: vec![pod.uid.clone()] })
        }
        [] | [_] => {
            let services = cluster.services().map(|it| &it.name).filter(|it| wanted.fits(it));
            let services: Vec<String> = services.map(|it| format!("svc/{it}")).collect();
            let mut error = wanted.not_found(alive().map(|it| &it.owner.name), "");
            if let NameError::NotFound { near, .. } = &mut error {
                near.splice(0..0, services);
            }
            Err(error)
        }
        several => Err(NameError::Ambiguous {
            text: wanted.text.to_owned(),
            candidates: several.iter().map(|it| format!("pod/{}", it.name)).collect(),
        }),
    }
}

/// One pod of each kind that policies could tell apart by more than an address out of one block.
pub fn distinct<'a>(pods: impl Iterator<Item = &'a Pod>) -> Vec<Uid> {
    let mut seen = BTreeSet::new();
    pods.filter(|pod| seen.insert((pod.labels.clone(), pod.ports.clone(), pod.host_network)))
        .map(|pod| pod.uid.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stands_after_the_last_colon_and_not_in_an_ipv6_address() {
        let port = |port, protocol| Some(Port { port, protocol });
        let number = PortText::Number;
        for (text, subject, expected) in [
            ("shop/db", "shop/db", None),
            ("shop/db:5432", "shop/db", port(number(5432), Protocol::Tcp)),
            ("svc/dns:53/udp", "svc/dns", port(number(53), Protocol::Udp)),
            ("db:sql", "db", port(PortText::Name("sql".into()), Protocol::Tcp)),
            ("fd00::1", "fd00::1", None),
            ("[fd00::1]:443", "fd00::1", port(number(443), Protocol::Tcp)),
        ] {
            assert_eq!(split_port(text), Ok((subject, expected)), "{text}");
        }
        for bad in ["db:0", "db:70000", "db:", "db:80/icmp"] {
            assert!(matches!(split_port(bad), Err(NameError::Malformed { .. })), "{bad}");
        }
    }
}
