use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::usage::Usage;
use super::{Millis, address_at, number_of};

/// How long a freed address rests: other nodes may still take its packets for the old pod's.
pub const QUARANTINE: Duration = Duration::from_secs(30);

/// Freed addresses whose order outlives a restart, beside those that still rest. What is forgotten was
/// freed before them, so taking it for never used keeps the order.
const REMEMBERED: usize = 256;

/// An IPv6 block is endless; as many of its addresses as the largest IPv4 block of a node has do.
const MOST: u128 = 1 << 16;

/// The addresses of one block. Least recently freed first, and never within [`QUARANTINE`].
#[derive(Debug, Clone)]
pub struct Pool {
    block: IpNet,
    /// The lowest address that has never been given out, and what follows it.
    fresh: u128,
    /// After the last address that pods may have.
    end: u128,
    /// Freed addresses and when they were freed, oldest first.
    freed: VecDeque<(IpAddr, Millis)>,
    held: BTreeMap<IpAddr, String>,
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The block cannot hold a pod: its first two addresses, and the last of IPv4, are reserved.
    #[error("{block} has no room for pods; a node needs a block of /29 (IPv4) or /125 (IPv6) or larger")]
    TooSmall {
        /// The block.
        block: IpNet,
    },
    /// Two blocks share addresses.
    #[error("the pod blocks {a} and {b} overlap; give each node blocks of its own")]
    Overlap {
        /// One.
        a: IpNet,
        /// The other.
        b: IpNet,
    },
    /// Two containers claim one address, or the address is of no block.
    #[error("{address} cannot be {container}'s: {why}")]
    Conflict {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        container: String,
        /// What speaks against it.
        why: String,
    },
}

impl Pool {
    /// All addresses of a block but the network's own, the one that people expect a gateway at, and
    /// the broadcast address.
    pub fn new(block: IpNet) -> Result<Self, PoolError> {
        let block = block.trunc();
        let first = number_of(block.network());
        let bits = u32::from(block.max_prefix_len() - block.prefix_len());
        if bits < 3 {
            return Err(PoolError::TooSmall { block });
        }
        let broadcast = u128::from(block.addr().is_ipv4());
        let end = first.saturating_add((1u128.checked_shl(bits).unwrap_or(MOST) - broadcast).min(MOST));
        Ok(Self { block, fresh: first + 2, end, freed: VecDeque::new(), held: BTreeMap::new() })
    }

    /// The block.
    pub fn block(&self) -> IpNet {
        self.block
    }

    /// Gives an address to a container, or says when there may be one.
    pub fn allocate(&mut self, container: &str, now: Millis) -> Result<IpAddr, Usage> {
        let address = self.next_fresh().or_else(|| self.next_freed(now)).ok_or_else(|| self.usage(now))?;
        self.held.insert(address, container.to_owned());
        Ok(address)
    }

    /// Gives a container the address that it held before a restart.
    pub fn adopt(&mut self, container: &str, address: IpAddr) -> Result<(), PoolError> {
        let conflict = |why| PoolError::Conflict { address, container: container.to_owned(), why };
        if !self.covers(address) {
            return Err(conflict(format!("it is not a pod address of {}", self.block)));
        }
        match self.held.get(&address) {
            Some(holder) if holder != container => return Err(conflict(format!("{holder} holds it"))),
            _ => self.held.insert(address, container.to_owned()),
        };
        self.freed.retain(|(freed, _)| *freed != address);
        Ok(())
    }

    /// Takes an address back; nothing happens if nobody holds it. One that no packet ever carried
    /// (`used` is false) need not rest.
    pub fn release(&mut self, address: IpAddr, now: Millis, used: bool) {
        if self.held.remove(&address).is_none() {
            return;
        }
        if used {
            self.freed.push_back((address, now));
        } else {
            self.freed.push_front((address, 0));
        }
    }

    /// Remembers addresses that were freed before a restart, in any order.
    pub fn remember_freed(&mut self, freed: impl IntoIterator<Item = (IpAddr, Millis)>) {
        let mut all: BTreeMap<IpAddr, Millis> = self.freed.drain(..).collect();
        all.extend(freed.into_iter().filter(|(address, _)| self.covers(*address)));
        all.retain(|address, _| !self.held.contains_key(address));
        self.freed = all.into_iter().collect();
        self.freed.make_contiguous().sort_by_key(|(_, at)| *at);
    }

    /// What a restart must know of the freed addresses, oldest first.
    pub fn memory(&self, now: Millis) -> impl Iterator<Item = (IpAddr, Millis)> + '_ {
        let rested = self.freed.partition_point(|(_, at)| has_rested(*at, now));
        let forgotten = self.freed.len().saturating_sub(REMEMBERED).min(rested);
        self.freed.iter().skip(forgotten).copied()
    }

    /// Who holds how much of the block.
    pub fn usage(&self, now: Millis) -> Usage {
        let rested = self.freed.partition_point(|(_, at)| has_rested(*at, now));
        let next = self.freed.get(rested).map(|(_, at)| at + QUARANTINE.as_millis() as Millis);
        Usage { block: self.block, held: self.held.len(), resting: self.freed.len() - rested, next, now }
    }

    /// Whether an address is one that pods may have.
    pub fn covers(&self, address: IpAddr) -> bool {
        let first = number_of(self.block.network()) + 2;
        self.block.contains(&address) && (first..self.end).contains(&number_of(address))
    }

    /// Never given out since this pool was made. Those adopted or remembered are skipped.
    fn next_fresh(&mut self) -> Option<IpAddr> {
        while self.fresh < self.end {
            let address = address_at(self.fresh, self.block);
            self.fresh += 1;
            if !self.held.contains_key(&address) && !self.freed.iter().any(|(freed, _)| *freed == address) {
                return Some(address);
            }
        }
        None
    }

    fn next_freed(&mut self, now: Millis) -> Option<IpAddr> {
        let (address, at) = *self.freed.front()?;
        if !has_rested(at, now) {
            return None;
        }
        self.freed.pop_front();
        Some(address)
    }
}

fn has_rested(freed_at: Millis, now: Millis) -> bool {
    now.saturating_sub(freed_at) >= QUARANTINE.as_millis() as Millis
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const REST: Millis = QUARANTINE.as_millis() as Millis;

    fn pool(block: &str) -> Pool {
        Pool::new(block.parse().unwrap()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_two_addresses_and_the_broadcast_address_are_nobodys() {
        let mut four = pool("10.244.1.0/29");
        let all: Vec<_> = (0..5).map(|i| four.allocate(&format!("c{i}"), 0).unwrap().to_string()).collect();
        assert_eq!(all, ["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"]);
        assert_eq!(four.allocate("one more", 0).unwrap_err().held, 5);
        let mut six = pool("fd00:244::/125");
        let all: Vec<_> = (0..6).map(|i| six.allocate(&format!("c{i}"), 0).unwrap().to_string()).collect();
        assert_eq!((all[0].as_str(), all[5].as_str()), ("fd00:244::2", "fd00:244::7"));
        assert!(six.allocate("one more", 0).is_err());
        for small in ["10.244.1.0/30", "fd00::/126"] {
            assert!(Pool::new(small.parse().unwrap()).is_err(), "{small}");
        }
        // No arithmetic overflows at either end.
        for large in ["::/0", "0.0.0.0/0", "fd00::/64", "255.255.255.0/24"] {
            assert!(pool(large).allocate("c", 0).is_ok(), "{large}");
        }
    }

    #[test]
    fn a_freed_address_rests_and_the_least_recently_freed_comes_first() {
        let mut pool = pool("10.244.1.0/29");
        for i in 0..5 {
            pool.allocate(&format!("c{i}"), 0).unwrap();
        }
        pool.release(ip("10.244.1.5"), 1_000, true);
        pool.release(ip("10.244.1.3"), 2_000, true);
        let resting = pool.allocate("d", 2_000).unwrap_err();
        assert_eq!((resting.held, resting.resting, resting.next), (3, 2, Some(1_000 + REST)));
        assert_eq!(pool.allocate("d", 1_000 + REST), Ok(ip("10.244.1.5")));
        assert!(pool.allocate("e", 1_000 + REST).is_err());
        assert_eq!(pool.allocate("e", 2_000 + REST), Ok(ip("10.244.1.3")));
    }

    #[test]
    fn an_address_that_was_never_used_need_not_rest() {
        let mut pool = pool("10.244.1.0/29");
        for i in 0..5 {
            pool.allocate(&format!("c{i}"), 0).unwrap();
        }
        pool.release(ip("10.244.1.4"), REST + 1, false);
        assert_eq!(pool.allocate("d", REST + 1), Ok(ip("10.244.1.4")));
    }

    #[test]
    fn after_a_restart_holders_keep_their_addresses_and_the_freed_still_rest() {
        let mut pool = pool("10.244.1.0/29");
        pool.remember_freed([(ip("10.244.1.4"), 500), (ip("10.244.1.3"), 100), (ip("10.9.9.9"), 1)]);
        pool.adopt("a", ip("10.244.1.2")).unwrap();
        pool.adopt("a", ip("10.244.1.2")).unwrap();
        assert!(pool.adopt("b", ip("10.244.1.2")).is_err());
        assert!(pool.adopt("b", ip("10.244.1.1")).is_err());
        assert_eq!(pool.allocate("c", 600), Ok(ip("10.244.1.5")));
        assert_eq!(pool.allocate("d", 600), Ok(ip("10.244.1.6")));
        assert!(pool.allocate("e", 600).is_err());
        assert_eq!(pool.allocate("e", 100 + REST), Ok(ip("10.244.1.3")));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_rests() {
        let mut pool = pool("fd00:244::/64");
        for i in 0..600u64 {
            let address = pool.allocate("c", 0).unwrap();
            pool.release(address, i, true);
        }
        assert_eq!(pool.memory(600).count(), 600, "all of them rest");
        assert_eq!(pool.memory(599 + REST).count(), REMEMBERED);
        assert_eq!(pool.memory(100 + REST).count(), 599 - 100);
    }

    proptest! {
        /// Whatever happens in whatever order: no address is held twice, none is reserved, none comes
        /// back before it has rested, and none is lost.
        #[test]
        fn no_address_is_doubled_hurried_or_lost(
            steps in proptest::collection::vec((0u8..3, 0u64..20_000, any::<usize>()), 1..200),
            six in any::<bool>(),
        ) {
            let (block, room) = if six { ("fd00:244::/124", 14) } else { ("10.244.1.0/28", 13) };
            let mut pool = pool(block);
            let (mut held, mut freed_at) = (Vec::<IpAddr>::new(), BTreeMap::<IpAddr, Millis>::new());
            let mut now = 1_000_000;
            for (step, (kind, passed, pick)) in steps.into_iter().enumerate() {
                now += passed;
                if kind < 2 {
                    if let Ok(address) = pool.allocate(&format!("c{step}"), now) {
                        prop_assert!(!held.contains(&address));
                        prop_assert!(freed_at.get(&address).is_none_or(|at| now - at >= REST));
                        prop_assert!(pool.covers(address));
                        held.push(address);
                    }
                } else if !held.is_empty() {
                    let address = held.swap_remove(pick % held.len());
                    pool.release(address, now, true);
                    freed_at.insert(address, now);
                }
            }
            let rested = now + REST;
            while let Ok(address) = pool.allocate("rest", rested) {
                held.push(address);
            }
            prop_assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), room);
            prop_assert_eq!(held.len(), room);
        }
    }
}
