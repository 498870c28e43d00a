use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

/// What resolvers inside pods are told.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The cluster's name servers.
    pub servers: Vec<IpAddr>,
    /// The cluster's domain: `cluster.local`.
    pub domain: String,
}

/// The limits of resolv.conf(5) as the kubelet applies them.
const SERVERS: usize = 3;
const SEARCHES: usize = 32;

/// The content of a `resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    /// `ndots:5`, `edns0`.
    options: Vec<(String, Option<String>)>,
}

impl Resolver {
    /// What a pod gets (Kubernetes, "Pod's DNS Policy" and "Pod's DNS Config"); `machine` is this
    /// machine's own `resolv.conf`.
    pub fn of(spec: &PodSpec, namespace: &str, dns: &Dns, machine: &str) -> Self {
        let host_network = spec.host_network == Some(true);
        let mut resolver = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
            "None" => Self::default(),
            "Default" => Self::parse(machine),
            "ClusterFirst" if host_network => Self::parse(machine),
            _ => Self::cluster_first(namespace, dns),
        };
        if let Some(config) = &spec.dns_config {
            resolver.add(config);
        }
        resolver.servers.truncate(SERVERS);
        resolver.searches.truncate(SEARCHES);
        resolver
    }

    fn cluster_first(namespace: &str, dns: &Dns) -> Self {
        let domain = &dns.domain;
        Self {
            servers: dns.servers.iter().map(ToString::to_string).collect(),
            searches: vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()],
            options: vec![("ndots".into(), Some("5".into()))],
        }
    }

    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => resolver.servers.extend(words.next()),
                // The last one counts (resolv.conf(5)).
                Some("search") => resolver.searches = words.collect(),
                Some("options") => resolver.options.extend(words.map(|word| match word.split_once(':') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (word, None),
                })),
                _ => {}
            }
        }
        resolver
    }

    /// Servers and searches are added, options replace those of the same name.
    fn add(&mut self, config: &PodDNSConfig) {
        let add = |to: &mut Vec<String>, more: &Option<Vec<String>>| {
            for item in more.iter().flatten() {
                if !to.contains(item) {
                    to.push(item.clone());
                }
            }
        };
        add(&mut self.servers, &config.nameservers);
        add(&mut self.searches, &config.searches);
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let value = option.value.clone().filter(|value| !value.is_empty());
            match self.options.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = value,
                None => self.options.push((name.clone(), value)),
            }
        }
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        let options = self.options.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        });
        let options: Vec<_> = options.collect();
        if options.is_empty() { Ok(()) } else { writeln!(f, "options {}", options.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_policy_gives_its_own_file() {
        let dns = Dns { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".into() };
        let machine = "# a comment\nnameserver 192.0.2.53\nsearch corp.example\noptions edns0 ndots:1\n";
        let cluster = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        let own = "nameserver 192.0.2.53\nsearch corp.example\noptions edns0 ndots:1\n";
        let config = json!({"nameservers": ["192.0.2.1", "10.96.0.10"], "searches": ["my.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let table = [
            (json!({}), cluster),
            (json!({"dnsPolicy": "ClusterFirst"}), cluster),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), own),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster),
            (json!({"dnsPolicy": "Default"}), own),
            (
                json!({"dnsPolicy": "None", "dnsConfig": config}),
                "nameserver 192.0.2.1\nnameserver 10.96.0.10\nsearch my.example\noptions ndots:2 edns0\n",
            ),
            (
                json!({"dnsConfig": config}),
                "nameserver 10.96.0.10\nnameserver 192.0.2.1\n\
                 search shop.svc.cluster.local svc.cluster.local cluster.local my.example\noptions ndots:2 edns0\n",
            ),
        ];
        for (spec, expected) in table {
            let mut with = spec.clone();
            with["containers"] = json!([]);
            let parsed = serde_json::from_value(with).unwrap();
            assert_eq!(Resolver::of(&parsed, "shop", &dns, machine).to_string(), expected, "{spec}");
        }
    }
}
