use std::net::IpAddr;

use ipnet::IpNet;

use super::usage::{self, Usage};
use super::{Millis, Pool, PoolError};

/// All blocks of a node: `node.spec.podCIDRs`, of either family, several of one where the first was
/// too small.
#[derive(Debug, Clone)]
pub struct Blocks {
    pools: Vec<Pool>,
}

/// No address of a family is free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", usage::list(.blocks), self.advice())]
pub struct Exhausted {
    /// Whether it is IPv6 that has run out.
    pub ipv6: bool,
    /// Each block of the family.
    pub blocks: Vec<Usage>,
}

impl Exhausted {
    /// Whether waiting helps.
    pub fn is_passing(&self) -> bool {
        self.blocks.iter().any(|block| block.resting > 0)
    }

    fn advice(&self) -> &'static str {
        match self.is_passing() {
            true => "a freed address rests until no other node can take it for the old pod's",
            false => "delete pods here or give nodes larger blocks",
        }
    }
}

impl Blocks {
    /// Pools of these blocks, to be used in their order.
    pub fn new(blocks: &[IpNet]) -> Result<Self, PoolError> {
        for (i, a) in blocks.iter().enumerate() {
            if let Some(b) = blocks[..i].iter().find(|b| b.contains(&a.network()) || a.contains(&b.network()))
            {
                return Err(PoolError::Overlap { a: *b, b: *a });
            }
        }
        Ok(Self { pools: blocks.iter().map(|block| Pool::new(*block)).collect::<Result<_, _>>()? })
    }

    /// Gives a container an address of each family that there are blocks of; the family of the first
    /// block comes first, as in `status.podIPs`. All of them or none.
    pub fn allocate(&mut self, container: &str, now: Millis) -> Result<Vec<IpAddr>, Exhausted> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for ipv6 in self.families() {
            match self.allocate_of(ipv6, container, now) {
                Ok(address) => addresses.push(address),
                Err(exhausted) => {
                    self.release(&addresses, now, false);
                    return Err(exhausted);
                }
            }
        }
        Ok(addresses)
    }

    fn allocate_of(&mut self, ipv6: bool, container: &str, now: Millis) -> Result<IpAddr, Exhausted> {
        let mut blocks = Vec::new();
        for pool in self.pools.iter_mut().filter(|pool| pool.block().addr().is_ipv6() == ipv6) {
            match pool.allocate(container, now) {
                Ok(address) => return Ok(address),
                Err(usage) => blocks.push(usage),
            }
        }
        Err(Exhausted { ipv6, blocks })
    }

    fn families(&self) -> Vec<bool> {
        let mut families: Vec<bool> = Vec::new();
        for pool in &self.pools {
            let ipv6 = pool.block().addr().is_ipv6();
            if !families.contains(&ipv6) {
                families.push(ipv6);
            }
        }
        families
    }

    /// Gives a container the addresses that it held before a restart; all of them or none.
    pub fn adopt(&mut self, container: &str, addresses: &[IpAddr]) -> Result<(), PoolError> {
        for (i, address) in addresses.iter().enumerate() {
            let adopted = match self.pool_of(*address) {
                Some(pool) => pool.adopt(container, *address),
                None => Err(PoolError::Conflict {
                    address: *address,
                    container: container.to_owned(),
                    why: "it is in no pod block of this node".into(),
                }),
            };
            if let Err(conflict) = adopted {
                self.release(&addresses[..i], 0, true);
                return Err(conflict);
            }
        }
        Ok(())
    }

    /// See [`Pool::release`].
    pub fn release(&mut self, addresses: &[IpAddr], now: Millis, used: bool) {
        for address in addresses {
            if let Some(pool) = self.pool_of(*address) {
                pool.release(*address, now, used);
            }
        }
    }

    /// See [`Pool::remember_freed`].
    pub fn remember_freed(&mut self, freed: &[(IpAddr, Millis)]) {
        for pool in &mut self.pools {
            pool.remember_freed(freed.iter().copied());
        }
    }

    /// See [`Pool::memory`].
    pub fn memory(&self, now: Millis) -> Vec<(IpAddr, Millis)> {
        self.pools.iter().flat_map(|pool| pool.memory(now)).collect()
    }

    fn pool_of(&mut self, address: IpAddr) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| pool.covers(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(blocks: &[&str]) -> Result<Blocks, PoolError> {
        let parsed: Vec<IpNet> = blocks.iter().map(|block| block.parse().unwrap()).collect();
        Blocks::new(&parsed)
    }

    fn text(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_family_gives_one_address_and_the_first_blocks_family_leads() {
        let mut dual = blocks(&["fd00:244:1::/64", "10.244.1.0/24"]).unwrap();
        assert_eq!(text(&dual.allocate("a", 0).unwrap()), ["fd00:244:1::2", "10.244.1.2"]);
        let mut six = blocks(&["fd00:244:1::/64"]).unwrap();
        assert_eq!(text(&six.allocate("a", 0).unwrap()), ["fd00:244:1::2"]);
    }

    #[test]
    fn the_next_block_follows_where_one_is_full_and_the_error_names_all() {
        let mut two = blocks(&["10.244.1.0/29", "10.244.9.0/29"]).unwrap();
        let given: Vec<_> =
            (0..10).map(|i| text(&two.allocate(&format!("c{i}"), 0).unwrap()).remove(0)).collect();
        assert_eq!((given[4].as_str(), given[5].as_str()), ("10.244.1.6", "10.244.9.2"));
        let full = two.allocate("more", 0).unwrap_err();
        assert!(!full.is_passing());
        assert_eq!(
            full.to_string(),
            "10.244.1.0/29: 5 held by pods, 0 in quarantine; 10.244.9.0/29: 5 held by pods, 0 in quarantine; \
             delete pods here or give nodes larger blocks"
        );
        two.release(&["10.244.9.3".parse().unwrap()], 1_000, true);
        let resting = two.allocate("more", 2_000).unwrap_err();
        assert!(resting.is_passing());
        assert!(
            resting.to_string().contains(
                "10.244.9.0/29: 4 held by pods, 1 in quarantine, the first until 00:00:31 UTC (in 29 s)"
            ),
            "{resting}"
        );
    }

    #[test]
    fn where_one_family_has_run_out_the_other_keeps_its_address() {
        let mut dual = blocks(&["10.244.1.0/24", "fd00:244:1::/125"]).unwrap();
        for i in 0..6 {
            dual.allocate(&format!("c{i}"), 0).unwrap();
        }
        let now = 100_000;
        assert!(dual.allocate("more", now).unwrap_err().ipv6);
        dual.release(&["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()], now, false);
        assert_eq!(text(&dual.allocate("more", now).unwrap()), ["10.244.1.9", "fd00:244:1::2"]);
        let held: Vec<_> = dual.pools.iter().map(|pool| pool.usage(0).held).collect();
        assert_eq!(held, [6, 6]);
    }

    #[test]
    fn overlapping_blocks_are_refused() {
        let error = blocks(&["10.244.0.0/16", "fd00::/64", "10.244.1.0/24"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the pod blocks 10.244.0.0/16 and 10.244.1.0/24 overlap; give each node blocks of its own"
        );
    }
}
