use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{IpBlock, Pod};
use kilter_policy::parts::{PeerId, Words};

use super::Options;

/// Where an end may lie: what that means for the blocks of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// Blocks that match, whatever the address turns out to be.
    pub surely: BTreeSet<PeerId>,
    /// Blocks that match some of the addresses it may get. Includes `surely`.
    pub maybe: BTreeSet<PeerId>,
}

/// How a block and all the addresses that an end may have relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overlap {
    None,
    Some,
    All,
}

/// Where a pod lies: at its addresses, or somewhere in the pod blocks.
pub fn of_pod(pod: &Pod, words: &Words, options: &Options) -> Placement {
    if !options.ip_blocks_match_pods {
        return Placement::default();
    }
    match pod.addresses.as_slice() {
        [] => within(words, &options.pod_cidrs),
        known => at(words, known),
    }
}

/// Where the node of a hostNetwork pod lies: at its addresses, or anywhere.
pub fn of_node(addresses: &[IpAddr], words: &Words) -> Placement {
    if addresses.is_empty() {
        let anywhere: Vec<IpNet> = ["0.0.0.0/0", "::/0"].iter().filter_map(|it| it.parse().ok()).collect();
        return within(words, &anywhere);
    }
    at(words, addresses)
}

fn at(words: &Words, addresses: &[IpAddr]) -> Placement {
    let hosts: Vec<IpNet> = addresses.iter().map(|it| IpNet::from(*it)).collect();
    within(words, &hosts)
}

fn within(words: &Words, places: &[IpNet]) -> Placement {
    let mut placement = Placement::default();
    for (id, block) in words.blocks() {
        let same_family = places.iter().filter(|it| it.addr().is_ipv4() == block.cidr.addr().is_ipv4());
        let overlaps: Vec<Overlap> = same_family.map(|it| overlap(block, it)).collect();
        if overlaps.iter().any(|it| *it != Overlap::None) {
            placement.maybe.insert(*id);
        }
        if !overlaps.is_empty() && overlaps.iter().all(|it| *it == Overlap::All) {
            placement.surely.insert(*id);
        }
    }
    placement
}

fn overlap(block: &IpBlock, place: &IpNet) -> Overlap {
    let touches = |it: &IpNet| it.contains(place) || place.contains(it);
    if !touches(&block.cidr) || block.except.iter().any(|hole| hole.contains(place)) {
        Overlap::None
    } else if block.cidr.contains(place) && !block.except.iter().any(touches) {
        Overlap::All
    } else {
        Overlap::Some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_matches_all_some_or_none_of_a_place() {
        let overlap = |cidr: &str, except: &[&str]| {
            let except = except.iter().map(|it| it.parse().unwrap()).collect();
            super::overlap(
                &IpBlock { cidr: cidr.parse().unwrap(), except },
                &"10.244.0.0/16".parse().unwrap(),
            )
        };
        assert_eq!(overlap("0.0.0.0/0", &[]), Overlap::All);
        assert_eq!(overlap("0.0.0.0/0", &["10.0.0.0/8"]), Overlap::None);
        assert_eq!(overlap("0.0.0.0/0", &["192.168.0.0/16"]), Overlap::All);
        assert_eq!(overlap("0.0.0.0/0", &["10.244.7.0/24"]), Overlap::Some);
        assert_eq!(overlap("10.244.7.0/24", &[]), Overlap::Some);
        assert_eq!(overlap("192.168.0.0/16", &[]), Overlap::None);
    }
}
