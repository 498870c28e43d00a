use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Cluster, IpBlock, Node, Pod};
use kilter_policy::parts::{Partition, PeerId, Words};

use super::{Options, Range, ranges};

/// The blocks of rules that match an end, for each way in which it may lie in them.
pub type Ways = BTreeSet<BTreeSet<PeerId>>;

/// Where ends lie, or may lie, in the blocks of rules.
pub struct Places<'a> {
    words: &'a Words,
    options: &'a Options,
    partition: Partition,
    /// All addresses of both families, cut where a block begins or ends to match.
    cuts: Vec<Range>,
    /// Where a pod without an address may lie.
    somewhere: Ways,
}

impl<'a> Places<'a> {
    /// The places of these words.
    pub fn new(words: &'a Words, cluster: &Cluster, options: &'a Options) -> Self {
        let blocks = words.blocks(cluster);
        let partition = Partition::new(blocks.iter().map(|(id, block)| (*id, block)), &[]);
        let cut = |ipv4| ranges::cut(blocks.iter().map(|(_, block)| block), ipv4);
        let cuts = [true, false].into_iter().flat_map(cut).collect();
        let mut places = Self { words, options, partition, cuts, somewhere: Ways::new() };
        places.somewhere = match options.ip_blocks_match_pods {
            true => places.within(&options.pod_cidrs),
            false => Ways::from([BTreeSet::new()]),
        };
        places
    }

    /// Where a pod lies, if that is known better than [`Places::somewhere`].
    pub fn of_pod(&self, pod: &Pod) -> Option<Ways> {
        match pod.addresses.as_slice() {
            known @ [_, ..] if self.options.ip_blocks_match_pods => Some(self.at(known)),
            _ => None,
        }
    }

    /// Where a pod may lie of which nothing is known.
    pub fn somewhere(&self) -> &Ways {
        &self.somewhere
    }

    /// Where the node of a hostNetwork pod lies: at its addresses, or anywhere.
    pub fn of_node(&self, node: Option<&Node>, pod: &Pod) -> Ways {
        let addresses = node.map_or(pod.addresses.as_slice(), |it| it.addresses.as_slice());
        if !addresses.is_empty() {
            return self.at(addresses);
        }
        let all: Vec<IpNet> = ["0.0.0.0/0", "::/0"].iter().filter_map(|it| it.parse().ok()).collect();
        let by_name =
            self.words.nodes().iter().filter(|(_, it)| node.is_none_or(|node| it.matches(&node.labels)));
        let by_name: BTreeSet<PeerId> = by_name.map(|(id, _)| *id).collect();
        let blocks = self.within(&all);
        let mut ways: Ways = blocks.iter().map(|it| it | &by_name).collect();
        if node.is_none() {
            ways.extend(blocks);
        }
        ways
    }

    /// What is known of an address that no pod holds.
    pub fn at_address(&self, address: IpAddr) -> BTreeSet<PeerId> {
        self.partition.find(address.into()).map(|(_, region)| region.blocks.clone()).unwrap_or_default()
    }

    fn at(&self, addresses: &[IpAddr]) -> Ways {
        addresses.iter().map(|it| self.at_address(*it)).collect()
    }

    fn within(&self, places: &[IpNet]) -> Ways {
        let mut ways = Ways::new();
        for place in places {
            let (first, last) = (place.network(), place.broadcast());
            let same_family = self.cuts.iter().filter(|it| it.first.is_ipv4() == first.is_ipv4());
            for range in same_family.filter(|it| it.first <= last && it.last >= first) {
                ways.insert(self.at_address(range.first.max(first)));
            }
        }
        ways
    }
}

/// The blocks of addresses of the nodes that a selector names.
pub fn node_blocks<'a>(
    cluster: &'a Cluster,
    selector: &'a kilter_model::Selector,
) -> impl Iterator<Item = IpBlock> + 'a {
    let nodes = cluster.nodes().filter(|it| selector.matches(&it.labels));
    nodes.flat_map(|it| &it.addresses).map(|it| IpBlock { cidr: (*it).into(), except: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_model::Peer;
    use kilter_policy::parts::Vocabulary;

    /// In how many ways a pod without an address may lie in these blocks, and whether all of them
    /// match in one.
    fn ways(blocks: &[(&str, &[&str])]) -> (usize, bool) {
        let mut vocabulary = Vocabulary::default();
        let block = |(cidr, except): &(&str, &[&str])| IpBlock {
            cidr: cidr.parse().unwrap(),
            except: except.iter().map(|it| it.parse().unwrap()).collect(),
        };
        let peers: Vec<_> = blocks.iter().map(|it| vocabulary.peer("", &Peer::IpBlock(block(it)))).collect();
        let words = Words::made_of(&vocabulary, peers, []);
        let (cluster, options) = (Cluster::default(), Options::default());
        let ways = Places::new(&words, &cluster, &options).somewhere().clone();
        (ways.len(), ways.iter().any(|it| it.len() == blocks.len()))
    }

    #[test]
    fn a_block_matches_all_some_or_none_of_a_place() {
        assert_eq!(ways(&[("0.0.0.0/0", &[])]), (1, true));
        assert_eq!(ways(&[("0.0.0.0/0", &["10.0.0.0/8"])]), (1, false));
        assert_eq!(ways(&[("0.0.0.0/0", &["192.168.0.0/16"])]), (1, true));
        assert_eq!(ways(&[("0.0.0.0/0", &["10.244.7.0/24"])]), (2, true));
        assert_eq!(ways(&[("10.244.7.0/24", &[])]), (2, true));
        assert_eq!(ways(&[("192.168.0.0/16", &[])]), (1, false));
        // Two halves leave no third way.
        assert_eq!(ways(&[("10.244.0.0/17", &[]), ("10.244.128.0/17", &[])]), (2, false));
    }
}
