//! The peers, measured for real with little effort: every path carries traffic, nothing stays behind.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kilter_bench::datapath::{self, Options};
use kilter_bench::engine::{Plan, Subject, measure};
use kilter_bench::lab::Lab;
use kilter_bench::work::{Effort, Target};

#[test]
fn every_peer_is_measured_over_every_kind_of_traffic() {
    let effort = Effort { exchanges: 200, connections: 50, bulk: Duration::from_millis(20) };
    let plan = Plan { runs: 2, effort, ..Plan::default() };
    let options = Options { plan, service_counts: vec![10], ..Options::default() };
    let report = datapath::run(options, &mut |_| {}).unwrap();

    let cases: Vec<_> =
        report.figures.iter().map(|figure| (figure.case.as_str(), figure.subject.as_str())).collect();
    for work in ["tcp-keepalive", "tcp-new-connection", "udp", "bulk", "bulk-of-8"] {
        for (path, subject) in [
            ("one-pod", "loopback"),
            ("same-node", "kernel"),
            ("across-nodes", "kernel"),
            ("service-of-10", "as-kube-proxy-nftables"),
            ("service-of-10", "as-kube-proxy-iptables"),
        ] {
            assert!(
                cases.contains(&(&format!("{work} {path}"), subject)),
                "{work} {path} {subject}: {cases:?}"
            );
        }
    }
    assert!(report.figures.iter().all(|figure| figure.p50 > 0.0 && figure.p99 > 0.0), "{report}");
}

#[test]
fn a_subject_whose_packets_the_kernel_forwards_is_not_measured() {
    let mut lab = Lab::new().unwrap();
    let node = lab.add_node().unwrap();
    let (client, server) = (lab.add_pod(node).unwrap(), lab.add_pod(node).unwrap());
    let target = Target {
        client_netns: client.netns,
        client_cgroup: None,
        server_netns: server.netns,
        server_addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7000)),
        connect_to: SocketAddr::from((server.address, 7000)),
    };
    let pretender = Subject {
        name: "kilter".into(),
        path: "same-node".into(),
        target,
        bypasses: vec![Arc::clone(lab.node(node))],
    };
    let error = measure("datapath", &[pretender], &Plan::default(), &mut |_| {}).unwrap_err();
    assert!(
        format!("{error:#}").starts_with("kilter (same-node): not attached: the kernel itself forwarded"),
        "{error:#}"
    );
}
