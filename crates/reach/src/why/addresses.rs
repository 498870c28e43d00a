//! Addresses that stand for all that no rule tells apart.

use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Cluster, Direction, IpBlock, Pod};

use crate::connections::{Options, Range, blocks, cut};

/// One address for each part of where a pod may lie that rules tell apart; `None` where its
/// address makes no difference.
pub fn of_pod(cluster: &Cluster, pod: &Pod, options: &Options) -> Vec<Option<IpAddr>> {
    if !options.ip_blocks_match_pods {
        return vec![None];
    }
    let node = pod.node.as_deref().and_then(|it| cluster.node(it));
    if pod.host_network && node.is_some_and(|it| !it.addresses.is_empty()) {
        return vec![None];
    }
    let within = |range: &Range| pod.host_network || is_within(range.first, &options.pod_cidrs);
    let ranges = parts(cluster, options, &options.pod_cidrs);
    let found: Vec<_> = ranges.into_iter().filter(within).map(|it| Some(it.first)).collect();
    if found.is_empty() { vec![None] } else { found }
}

/// The addresses outside the cluster, in the ranges that rules tell apart.
pub fn outside(cluster: &Cluster, options: &Options) -> Vec<Range> {
    let mut own = options.pod_cidrs.clone();
    own.extend(cluster.nodes().flat_map(|it| it.addresses.iter().map(|it| IpNet::from(*it))));
    own.extend(cluster.nodes().flat_map(|it| it.pod_cidrs.iter().copied()));
    let ranges = parts(cluster, options, &own);
    ranges.into_iter().filter(|it| !is_within(it.first, &own)).collect()
}

/// All addresses, cut along the blocks of all rules and along these.
fn parts(cluster: &Cluster, options: &Options, also: &[IpNet]) -> Vec<Range> {
    let also: Vec<IpBlock> = also.iter().map(|it| IpBlock { cidr: *it, except: vec![] }).collect();
    let of_rules = [Direction::Ingress, Direction::Egress].into_iter().flat_map(|it| blocks(cluster, it));
    let all: Vec<IpBlock> = of_rules.chain(also).collect();
    let families = [true, false].into_iter();
    families
        .filter(|ipv4| options.pod_cidrs.iter().any(|it| it.addr().is_ipv4() == *ipv4))
        .flat_map(|ipv4| cut(&all, ipv4))
        .collect()
}

fn is_within(address: IpAddr, blocks: &[IpNet]) -> bool {
    blocks.iter().any(|it| it.contains(&address))
}
