use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};

use super::resolver::{Dns, Resolver};

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

    /// Writes them for a pod of this namespace, hostname and addresses.
    pub fn write(
        &self,
        spec: &PodSpec,
        namespace: &str,
        hostname: &str,
        addresses: &[IpAddr],
        dns: &Dns,
    ) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        // A machine without one has nothing to tell.
        let machine = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let resolver = Resolver::of(spec, namespace, dns, &machine);
        std::fs::write(self.dir.join("resolv.conf"), resolver.to_string())?;
        let full_name = spec.subdomain.as_ref().filter(|subdomain| !subdomain.is_empty()).map(|subdomain| {
            format!("{hostname}.{subdomain}.{namespace}.svc.{}", dns.domain)
        });
        let names = full_name.into_iter().chain([hostname.to_owned()]).collect::<Vec<_>>().join("\t");
        std::fs::write(self.dir.join("hosts"), hosts(&names, addresses, spec.host_aliases.as_deref()))?;
        std::fs::write(self.dir.join("hostname"), format!("{hostname}\n"))
    }

    /// Pairs of a file and the path that it stands in for.
    pub fn binds(&self) -> impl Iterator<Item = (PathBuf, &'static Path)> {
        PLACES.iter().map(|(file, place)| (self.dir.join(file), Path::new(*place)))
    }
}

fn hosts(names: &str, addresses: &[IpAddr], aliases: Option<&[HostAlias]>) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for address in addresses {
        let _ = writeln!(text, "{address}\t{names}");
    }
    for alias in aliases.into_iter().flatten() {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_the_pod_at_each_address_and_its_aliases() {
        let alias: HostAlias =
            serde_json::from_value(serde_json::json!({"ip": "192.0.2.1", "hostnames": ["db", "db.example"]})).unwrap();
        let addresses = ["10.244.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(
            hosts("web.shop\tweb", &addresses, Some(&[alias])),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             10.244.0.2\tweb.shop\tweb\nfd00::2\tweb.shop\tweb\n192.0.2.1\tdb\tdb.example\n"
        );
    }
}
