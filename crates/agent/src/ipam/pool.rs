use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::Millis;

/// How long a freed address rests: other nodes may still take its packets for the old pod's.
const QUARANTINE: Duration = Duration::from_secs(30);

/// The addresses of one block. Least recently freed first, and never within [`QUARANTINE`].
#[derive(Debug, Clone)]
pub struct Pool {
    block: Ipv4Net,
    /// The lowest address that has never been given out, and what follows it.
    fresh: u32,
    /// Freed addresses and when they were freed, oldest first.
    freed: VecDeque<(Ipv4Addr, Millis)>,
    held: BTreeMap<Ipv4Addr, String>,
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The block cannot hold a pod: its first two addresses and its last are reserved.
    #[error("{block} has no room for pods; a node needs a block of /29 or larger")]
    TooSmall {
        /// The block.
        block: Ipv4Net,
    },
    /// Every address is a pod's.
    #[error(
        "no address left in {block}: all {held} belong to pods; delete pods here or give nodes larger blocks"
    )]
    Exhausted {
        /// The block.
        block: Ipv4Net,
        /// How many pods hold one.
        held: usize,
    },
    /// Some are free, but not yet to be used again.
    #[error("every free address in {block} was freed less than {}s ago; the next is ready in {wait_ms} ms", QUARANTINE.as_secs())]
    Resting {
        /// The block.
        block: Ipv4Net,
        /// Until the first of them may be used.
        wait_ms: u64,
    },
    /// Two containers claim one address, or the address is not of this block.
    #[error("{address} cannot be {container}'s: {why}")]
    Conflict {
        /// The address.
        address: Ipv4Addr,
        /// Who claims it.
        container: String,
        /// What speaks against it.
        why: String,
    },
}

impl Pool {
    /// A pool of a block in which nothing is held.
    pub fn new(block: Ipv4Net) -> Result<Self, PoolError> {
        if block.prefix_len() > 29 {
            return Err(PoolError::TooSmall { block });
        }
        Ok(Self { block, fresh: first(block), freed: VecDeque::new(), held: BTreeMap::new() })
    }

    /// Gives an address to a container.
    pub fn allocate(&mut self, container: &str, now: Millis) -> Result<Ipv4Addr, PoolError> {
        let address = match self.next_fresh() {
            Some(address) => address,
            None => self.next_freed(now)?,
        };
        self.held.insert(address, container.to_owned());
        Ok(address)
    }

    /// Gives a container the address that it held before a restart.
    pub fn adopt(&mut self, container: &str, address: Ipv4Addr) -> Result<(), PoolError> {
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
    pub fn release(&mut self, address: Ipv4Addr, now: Millis, used: bool) {
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
    pub fn remember_freed(&mut self, freed: impl IntoIterator<Item = (Ipv4Addr, Millis)>) {
        let mut all: BTreeMap<Ipv4Addr, Millis> = self.freed.drain(..).collect();
        all.extend(freed.into_iter().filter(|(address, _)| self.covers(*address)));
        all.retain(|address, _| !self.held.contains_key(address));
        self.freed = all.into_iter().collect();
        self.freed.make_contiguous().sort_by_key(|(_, at)| *at);
    }

    /// The freed addresses and when they were freed, oldest first.
    pub fn freed(&self) -> impl Iterator<Item = (Ipv4Addr, Millis)> + '_ {
        self.freed.iter().copied()
    }

    /// Never given out since this pool was made. Those adopted or remembered are skipped.
    fn next_fresh(&mut self) -> Option<Ipv4Addr> {
        while self.fresh < u32::from(self.block.broadcast()) {
            let address = Ipv4Addr::from(self.fresh);
            self.fresh += 1;
            if !self.held.contains_key(&address) && !self.freed.iter().any(|(freed, _)| *freed == address) {
                return Some(address);
            }
        }
        None
    }

    fn next_freed(&mut self, now: Millis) -> Result<Ipv4Addr, PoolError> {
        let quarantine = QUARANTINE.as_millis() as Millis;
        match self.freed.front() {
            None => Err(PoolError::Exhausted { block: self.block, held: self.held.len() }),
            Some((_, at)) if now.saturating_sub(*at) < quarantine => {
                let wait_ms = quarantine - now.saturating_sub(*at);
                Err(PoolError::Resting { block: self.block, wait_ms })
            }
            Some((address, _)) => {
                let address = *address;
                self.freed.pop_front();
                Ok(address)
            }
        }
    }

    fn covers(&self, address: Ipv4Addr) -> bool {
        (first(self.block)..u32::from(self.block.broadcast())).contains(&u32::from(address))
    }
}

/// After the network's own address and the one that people expect a gateway at.
fn first(block: Ipv4Net) -> u32 {
    u32::from(block.network()) + 2
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

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_two_addresses_and_the_last_are_nobodys() {
        let mut pool = pool("10.244.1.0/29");
        let all: Vec<_> = (0..5).map(|i| pool.allocate(&format!("c{i}"), 0).unwrap().octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        let error = pool.allocate("one more", 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no address left in 10.244.1.0/29: all 5 belong to pods; delete pods here or give nodes larger blocks"
        );
        assert!(Pool::new("10.244.1.0/30".parse().unwrap()).is_err());
    }

    #[test]
    fn a_freed_address_rests_and_the_least_recently_freed_comes_first() {
        let mut pool = pool("10.244.1.0/29");
        for i in 0..5 {
            pool.allocate(&format!("c{i}"), 0).unwrap();
        }
        pool.release(ip("10.244.1.5"), 1_000, true);
        pool.release(ip("10.244.1.3"), 2_000, true);
        let block = "10.244.1.0/29".parse().unwrap();
        assert_eq!(pool.allocate("d", 2_000), Err(PoolError::Resting { block, wait_ms: REST - 1_000 }));
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
        assert!(matches!(pool.allocate("e", 600), Err(PoolError::Resting { .. })));
        assert_eq!(pool.allocate("e", 100 + REST), Ok(ip("10.244.1.3")));
    }

    proptest! {
        /// Whatever happens in whatever order: no address is held twice, none is reserved, none comes
        /// back before it has rested, and none is lost.
        #[test]
        fn no_address_is_doubled_hurried_or_lost(steps in proptest::collection::vec((0u8..3, 0u64..20_000, any::<usize>()), 1..200)) {
            let mut pool = pool("10.244.1.0/28");
            let (mut held, mut freed_at) = (Vec::<Ipv4Addr>::new(), BTreeMap::<Ipv4Addr, Millis>::new());
            let mut now = 1_000_000;
            for (step, (kind, passed, pick)) in steps.into_iter().enumerate() {
                now += passed;
                if kind < 2 {
                    if let Ok(address) = pool.allocate(&format!("c{step}"), now) {
                        prop_assert!(!held.contains(&address));
                        prop_assert!(freed_at.get(&address).is_none_or(|at| now - at >= REST));
                        prop_assert!((2..15).contains(&address.octets()[3]));
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
            prop_assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), 13);
            prop_assert_eq!(held.len(), 13);
        }
    }
}
