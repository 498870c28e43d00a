//! Latency and throughput between pods: the limit, the kernel, Services by the kernel's packet
//! filters, and whatever the caller adds (Kilter's own pods).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use anyhow::Result;

use crate::engine::{self, Plan, Subject};
use crate::figure::Report;
use crate::lab::{Lab, Pod};
use crate::peers::{Mode, Service, services};
use crate::work::Target;

/// What the server listens on.
pub(crate) const PORT: u16 = 7000;
/// The Service in front of it, for the peers.
pub(crate) const FRONTEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 111, 0, 1), 80);

/// What to measure.
pub struct Options {
    /// How much.
    pub plan: Plan,
    /// Whether the peers run beside.
    pub peers: bool,
    /// How many Services the peers' rule sets have, each a case of its own.
    pub service_counts: Vec<usize>,
    /// Subjects of the caller, measured first: Kilter, with pods of a running twin.
    pub subjects: Vec<Subject>,
}

impl Default for Options {
    fn default() -> Self {
        Self { plan: Plan::default(), peers: true, service_counts: vec![10, 10_000], subjects: Vec::new() }
    }
}

/// Measures all subjects in one run. Needs root. `progress` is told what is being done.
pub fn run(options: Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut subjects = options.subjects;
    // The lab's namespaces live as long as it does.
    let mut lab = None;
    if options.peers {
        let lab = lab.insert(Lab::new()?);
        progress("make the peers' networks");
        subjects.extend(plain(lab)?);
        for count in options.service_counts {
            for mode in [Mode::Nftables, Mode::Iptables] {
                progress(&format!("load {count} Services {}", mode.subject()));
                subjects.push(through_service(lab, mode, count)?.0);
            }
        }
    }
    subjects.sort_by_key(|subject| (rank(&subject.path), subject.path.clone()));
    let figures = engine::measure("datapath", &subjects, &options.plan, progress)?;
    Ok(Report { figures, notes: notes(options.peers) })
}

/// Those who go the same way stand together, the shortest way first.
fn rank(path: &str) -> usize {
    let known = ["one-pod", "same-node", "across-nodes"];
    known.iter().position(|known| path.starts_with(known)).unwrap_or(usize::MAX)
}

/// The limit and the kernel's own forwarding, no policy.
pub(crate) fn plain(lab: &mut Lab) -> Result<Vec<Subject>> {
    let (near, far) = (lab.add_node()?, lab.add_node()?);
    let client = lab.add_pod(near)?;
    let (same, across) = (lab.add_pod(near)?, lab.add_pod(far)?);
    let loopback =
        Target { connect_to: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), ..target(&client, &client) };
    Ok(vec![
        subject("loopback", "one-pod", loopback),
        subject("kernel", "same-node", target(&client, &same)),
        subject("kernel", "across-nodes", target(&client, &across)),
    ])
}

/// A node of its own for each rule set: rules and connection tracking cost every packet they see. Also the node's
/// place in the lab.
pub(crate) fn through_service(lab: &mut Lab, mode: Mode, count: usize) -> Result<(Subject, usize)> {
    let node = lab.add_node()?;
    let client = lab.add_pod(node)?;
    let server = lab.add_pod(node)?;
    let backends = vec![SocketAddrV4::new(server.address, PORT)];
    let measured = Service { protocols: &["tcp", "udp"], frontend: FRONTEND, backends };
    mode.load(lab.node(node), &services(count, &measured))?;
    let target = Target { connect_to: FRONTEND.into(), ..target(&client, &server) };
    Ok((subject(mode.subject(), &format!("service-of-{count}"), target), node))
}

fn subject(name: &str, path: &str, target: Target) -> Subject {
    Subject { name: name.into(), path: path.into(), target, bypasses: Vec::new() }
}

fn target(client: &Pod, server: &Pod) -> Target {
    Target {
        client_netns: Arc::clone(&client.netns),
        client_cgroup: None,
        server_netns: Arc::clone(&server.netns),
        server_addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
        connect_to: SocketAddr::from((server.address, PORT)),
    }
}

pub(crate) fn notes(peers: bool) -> Vec<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut notes = vec![format!(
        "linux {}; latency: 1 byte there and back, both ends on one core; bulk: one TCP stream, or eight, an end a core",
        kernel.trim()
    )];
    if peers {
        notes.push(
            "as-kube-proxy-*: rule sets in the form that kube-proxy writes, loaded by nft and iptables-restore; \
             not kube-proxy itself. The Service measured is in the middle of the list"
                .into(),
        );
    }
    notes
}
