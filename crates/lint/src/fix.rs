use std::fmt;

use kilter_model::{Direction, Origin, Pod, Protocol};
use serde::Serialize;

/// What mends a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub enum Fix {
    /// Another value at this place.
    Replace {
        /// The line.
        origin: Origin,
        /// `key: value` as it is.
        old: String,
        /// As it should be.
        new: String,
    },
    /// One more object.
    Add {
        /// Its manifest.
        yaml: String,
    },
}

impl Fix {
    /// A policy that permits one connection, on the side of the given direction.
    pub(crate) fn allow(direction: Direction, from: &Pod, to: &Pod, protocol: Protocol, port: u16) -> Self {
        let (pod, peer) = match direction {
            Direction::Ingress => (to, from),
            Direction::Egress => (from, to),
        };
        let (types, rule, side) = match direction {
            Direction::Ingress => ("Ingress", "ingress", "from"),
            Direction::Egress => ("Egress", "egress", "to"),
        };
        let namespace = if pod.name.namespace == peer.name.namespace {
            String::new()
        } else {
            let name = &peer.name.namespace;
            format!("namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}\n          ")
        };
        let yaml = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {}-{side}-{}\n  \
             namespace: {}\nspec:\n  podSelector: {}\n  policyTypes: [{types}]\n  {rule}:\n    - {side}:\n        \
             - {namespace}podSelector: {}\n      ports:\n        - {{port: {port}, protocol: {protocol}}}\n",
            pod.owner.name.name,
            peer.owner.name.name,
            pod.name.namespace,
            selector(pod),
            selector(peer),
        );
        Fix::Add { yaml }
    }

    /// One more egress rule for a pod: the cluster's DNS.
    pub(crate) fn allow_dns(pod: &Pod) -> Self {
        let yaml = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {}-to-dns\n  namespace: {}\n\
             spec:\n  podSelector: {}\n  policyTypes: [Egress]\n  egress:\n    - to:\n        - namespaceSelector: \
             {{matchLabels: {{kubernetes.io/metadata.name: kube-system}}}}\n          podSelector: {{matchLabels: \
             {{k8s-app: kube-dns}}}}\n      ports:\n        - {{port: 53, protocol: UDP}}\n        \
             - {{port: 53, protocol: TCP}}\n",
            pod.owner.name.name,
            pod.name.namespace,
            selector(pod),
        );
        Fix::Add { yaml }
    }
}

/// Exactly the pods with all of these labels; those that controllers add differ at each rollout.
fn selector(pod: &Pod) -> String {
    const ADDED: [&str; 4] = [
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "apps.kubernetes.io/pod-index",
    ];
    let labels = pod.labels.iter().filter(|(key, _)| !ADDED.contains(&&***key));
    let pairs: Vec<String> = labels.map(|(key, value)| format!("{key}: {value:?}")).collect();
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{matchLabels: {{{}}}}}", pairs.join(", ")) }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fix::Replace { origin, old, new } => {
                writeln!(f, "    mend: at {origin}, `{new}` instead of `{old}`")
            }
            Fix::Add { yaml } => {
                writeln!(f, "    mend: add")?;
                yaml.lines().try_for_each(|line| writeln!(f, "      {line}"))
            }
        }
    }
}
