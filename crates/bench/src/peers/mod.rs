//! Service rule sets of the kernel's packet filters, in the form in which kube-proxy writes them.
//!
//! They are written here and not by kube-proxy itself, which would have to be brought along: what
//! is measured is the path of a packet through such rules, and nothing of the program.

mod iptables;
mod nftables;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use kilter_netns::NetNs;

/// The range from which pods are: what comes from elsewhere is masqueraded (kube-proxy's cluster CIDR).
const POD_CIDR: &str = "10.251.0.0/16";
/// The packet mark that asks for masquerading.
const MASQUERADE_MARK: &str = "0x4000";

/// A Service of one port number.
#[derive(Debug, Clone)]
pub struct Service {
    /// `tcp`, `udp` or both.
    pub protocols: &'static [&'static str],
    /// Cluster IP and port.
    pub frontend: SocketAddrV4,
    /// Its endpoints, at least one.
    pub backends: Vec<SocketAddrV4>,
}

/// The two ways in which kube-proxy programs the kernel.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    /// Verdict maps and `numgen random`.
    Nftables,
    /// One chain a Service and `-m statistic --mode random`.
    Iptables,
}

impl Mode {
    /// The subject's name in a figure.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Nftables => "as-kube-proxy-nftables",
            Self::Iptables => "as-kube-proxy-iptables",
        }
    }

    /// Lets one Service of a loaded rule set lead elsewhere, in one transaction as kube-proxy would.
    pub fn change(self, netns: &NetNs, number: usize, service: &Service) -> Result<()> {
        let (program, arguments, rules) = match self {
            Self::Nftables => ("nft", ["-f", "-"].as_slice(), nftables::change(number, service)),
            Self::Iptables => {
                let arguments = ["--noflush", "--counters"].as_slice();
                ("iptables-restore", arguments, iptables::change(number, service))
            }
        };
        netns.run(|| feed(program, arguments, &rules))?
    }

    /// Loads a rule set for `services` into a namespace that has none.
    pub fn load(self, netns: &NetNs, services: &[Service]) -> Result<()> {
        let (program, arguments, rules) = match self {
            Self::Nftables => ("nft", ["-f", "-"].as_slice(), nftables::rules(services)),
            Self::Iptables => ("iptables-restore", [].as_slice(), iptables::rules(services)),
        };
        netns.run(|| feed(program, arguments, &rules))?
    }
}

/// Services as a cluster of `count` has them: all but one lead nowhere, and `measured` is in the
/// middle, which only a rule set that is searched from the top notices.
pub fn services(count: usize, measured: &Service) -> Vec<Service> {
    let filler = |number: usize| {
        let [high, low] = (number as u16).to_be_bytes();
        let backends = [1, 2].map(|side| SocketAddrV4::new(Ipv4Addr::new(10, 252 + side, high, low), 8080));
        let frontend = SocketAddrV4::new(Ipv4Addr::new(10, 96, high, low), 80);
        Service { protocols: &["tcp"], frontend, backends: backends.into() }
    };
    // Number 0 would be the range's first address.
    let mut all: Vec<Service> = (1..count).map(filler).collect();
    all.insert(count / 2, measured.clone());
    all
}

/// The peer's own program loads the peer's rules: `netlink` knows only what Kilter needs.
fn feed(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program} (Debian's packages nftables and iptables; `make setup`)"))?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program} refused the rules: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    written.transpose().with_context(|| format!("feed {program}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Service {
        let backend = |host| SocketAddrV4::new(Ipv4Addr::new(10, 251, 0, host), 7000);
        let frontend = "10.111.0.1:80".parse().unwrap();
        Service { protocols: &["tcp", "udp"], frontend, backends: vec![backend(3), backend(4)] }
    }

    #[test]
    fn ten_services_have_the_measured_one_in_the_middle() {
        let all = services(10, &measured());
        assert_eq!(all.len(), 10);
        assert_eq!(all[5].frontend, measured().frontend);
        let mut frontends: Vec<_> = all.iter().map(|service| service.frontend).collect();
        frontends.sort();
        frontends.dedup();
        assert_eq!(frontends.len(), 10);
    }

    #[test]
    fn both_rule_sets_are_what_the_kernel_accepts() {
        for mode in [Mode::Nftables, Mode::Iptables] {
            let netns = kilter_testkit::TestNetNs::new("rules");
            mode.load(&netns, &services(10, &measured())).unwrap();
        }
    }

    #[test]
    fn both_rule_sets_take_a_change() {
        for mode in [Mode::Nftables, Mode::Iptables] {
            let netns = kilter_testkit::TestNetNs::new("rules");
            mode.load(&netns, &services(10, &measured())).unwrap();
            let moved = Service { backends: vec!["10.251.0.9:7000".parse().unwrap()], ..measured() };
            mode.change(&netns, 5, &moved).unwrap();
            let list = match mode {
                Mode::Nftables => ("nft", ["list", "ruleset"].as_slice()),
                Mode::Iptables => ("iptables-save", [].as_slice()),
            };
            let output = netns.run(|| Command::new(list.0).args(list.1).output()).unwrap().unwrap();
            let rules = String::from_utf8(output.stdout).unwrap();
            assert!(rules.contains("10.251.0.9:7000"), "{rules}");
            assert!(!rules.contains("10.251.0.3:7000"), "{rules}");
        }
    }

    #[test]
    fn refused_rules_are_shown_with_the_programs_own_words() {
        let netns = kilter_testkit::TestNetNs::new("rules");
        let error = netns.run(|| feed("nft", &["-f", "-"], "add rule nowhere\n")).unwrap().unwrap_err();
        assert!(error.to_string().starts_with("nft refused the rules: "), "{error}");
    }
}
