use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What resolvers inside pods are told.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The cluster's name servers.
    pub servers: Vec<IpAddr>,
    /// The cluster's domain: `cluster.local`.
    pub domain: String,
}

/// The files that a program inside the pod sees in place of the machine's.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

/// Where each is in the pod's directory, and where a program looks for it.
const PLACES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")];

impl Files {
    /// The files in a pod's state directory.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Writes them for a pod of this namespace, hostname and first address.
    pub fn write(
        &self,
        namespace: &str,
        hostname: &str,
        address: Option<IpAddr>,
        dns: &Dns,
    ) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        std::fs::write(self.dir.join("resolv.conf"), resolv_conf(namespace, dns))?;
        std::fs::write(self.dir.join("hosts"), hosts(hostname, address))?;
        std::fs::write(self.dir.join("hostname"), format!("{hostname}\n"))
    }

    /// Pairs of a file and the path that it stands in for.
    pub fn binds(&self) -> impl Iterator<Item = (PathBuf, &'static Path)> {
        PLACES.iter().map(|(file, place)| (self.dir.join(file), Path::new(*place)))
    }
}

/// `dnsPolicy: ClusterFirst` (Kubernetes, "DNS for Services and Pods").
fn resolv_conf(namespace: &str, dns: &Dns) -> String {
    let domain = &dns.domain;
    let mut text = String::new();
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let _ = writeln!(text, "search {namespace}.svc.{domain} svc.{domain} {domain}");
    text.push_str("options ndots:5\n");
    text
}

fn hosts(hostname: &str, address: Option<IpAddr>) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if let Some(address) = address {
        let _ = writeln!(text, "{address}\t{hostname}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_path_is_that_of_cluster_first() {
        let dns = Dns { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".into() };
        assert_eq!(
            resolv_conf("shop", &dns),
            "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
    }
}
