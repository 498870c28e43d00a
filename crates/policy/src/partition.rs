use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kilter_model::IpBlock;

use crate::rules::Kind;
use crate::vocabulary::PeerId;

/// All addresses, cut along every block in use. An address belongs to its longest prefix here, and
/// no block in use tells two addresses of the same longest prefix apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    regions: BTreeMap<IpNet, Region>,
    /// The lengths of its prefixes, the longest first: of IPv4, of IPv6. They are few, and every
    /// address that moves is looked up.
    lengths: [Vec<u8>; 2],
}

/// What is known of the addresses of one longest prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Never [`Kind::Pod`].
    pub kind: Kind,
    /// The blocks in use that match.
    pub blocks: BTreeSet<PeerId>,
}

impl Partition {
    /// Cuts along these blocks and pod blocks.
    pub fn new<'a>(blocks: impl IntoIterator<Item = (PeerId, &'a IpBlock)>, pod_cidrs: &[IpNet]) -> Self {
        let blocks: Vec<_> = blocks.into_iter().collect();
        let everything = [
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
        ];
        let mut prefixes: BTreeSet<IpNet> = everything.into_iter().collect();
        prefixes.extend(pod_cidrs.iter().map(IpNet::trunc));
        for (_, block) in &blocks {
            prefixes.insert(block.cidr.trunc());
            prefixes.extend(block.except.iter().map(IpNet::trunc));
        }
        let region = |prefix: &IpNet| Region {
            kind: if pod_cidrs.iter().any(|it| it.contains(prefix)) { Kind::Unknown } else { Kind::External },
            blocks: blocks.iter().filter(|(_, block)| covers(block, prefix)).map(|(id, _)| *id).collect(),
        };
        let lengths = [true, false].map(|ipv4| {
            let of_family = prefixes.iter().filter(|it| it.addr().is_ipv4() == ipv4);
            let lengths: BTreeSet<u8> = of_family.map(|it| it.prefix_len()).collect();
            lengths.into_iter().rev().collect()
        });
        Self { regions: prefixes.iter().map(|prefix| (*prefix, region(prefix))).collect(), lengths }
    }

    /// The prefixes and what is known of them.
    pub fn regions(&self) -> impl Iterator<Item = (&IpNet, &Region)> {
        self.regions.iter()
    }

    /// The prefixes that only one of both has, or that are different regions in them.
    pub fn changes(&self, after: &Partition) -> BTreeSet<IpNet> {
        let prefixes = self.regions.keys().chain(after.regions.keys());
        prefixes.filter(|it| self.regions.get(it) != after.regions.get(it)).copied().collect()
    }

    /// The region of exactly this prefix.
    pub fn region(&self, prefix: &IpNet) -> Option<&Region> {
        self.regions.get(prefix)
    }

    /// The longest prefix that contains all of `prefix`.
    pub fn find(&self, prefix: IpNet) -> Option<(&IpNet, &Region)> {
        let lengths = &self.lengths[usize::from(prefix.addr().is_ipv6())];
        let shorter = lengths.iter().filter(|length| **length <= prefix.prefix_len());
        shorter
            .filter_map(|length| IpNet::new(prefix.addr(), *length).ok())
            .find_map(|shorter| self.regions.get_key_value(&shorter.trunc()))
    }
}

/// The longest prefix in a map that contains all of `prefix`; for an address, a host prefix.
pub fn longest<T>(map: &BTreeMap<IpNet, T>, prefix: IpNet) -> Option<(&IpNet, &T)> {
    (0..=prefix.prefix_len())
        .rev()
        .filter_map(|length| IpNet::new(prefix.addr(), length).ok())
        .find_map(|shorter| map.get_key_value(&shorter.trunc()))
}

/// Whether a block matches all addresses of a prefix that none of the block's holes is within.
fn covers(block: &IpBlock, prefix: &IpNet) -> bool {
    block.cidr.contains(prefix) && !block.except.iter().any(|hole| hole.contains(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_says_which_blocks_match() {
        let block = |cidr: &str, except: &[&str]| IpBlock {
            cidr: cidr.parse().unwrap(),
            except: except.iter().map(|it| it.parse().unwrap()).collect(),
        };
        let mut vocabulary = crate::vocabulary::Vocabulary::default();
        let blocks = [block("10.0.0.0/8", &["10.1.0.0/16"]), block("10.1.2.0/24", &[])];
        let ids = blocks.clone().map(|it| vocabulary.peer("a", &kilter_model::Peer::IpBlock(it)));
        let partition = Partition::new(ids.into_iter().zip(&blocks), &["10.1.0.0/17".parse().unwrap()]);
        let at = |address: &str| {
            let address: std::net::IpAddr = address.parse().unwrap();
            let (_, region) = partition.find(address.into()).unwrap();
            (region.kind, region.blocks.iter().copied().collect::<Vec<_>>())
        };
        assert_eq!(at("11.0.0.1"), (Kind::External, vec![]));
        assert_eq!(at("10.2.0.1"), (Kind::External, vec![ids[0]]));
        assert_eq!(at("10.1.200.1"), (Kind::External, vec![]));
        assert_eq!(at("10.1.2.3"), (Kind::Unknown, vec![ids[1]]));
        assert_eq!(at("fd00::1"), (Kind::External, vec![]));
    }
}
