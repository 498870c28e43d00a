//! The addresses that Services of type LoadBalancer get, and who has which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kilter_model::Family;

use crate::cache::Key;

/// Why a Service does not get an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It asks for one that is not ours to give.
    Outside(IpAddr),
    /// It asks for another Service's.
    Taken(IpAddr, Key),
    /// All addresses of this family are given away.
    Full(Family),
    /// There are none of this family.
    None(Family),
}

impl Refusal {
    /// In CamelCase, for programs.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Refusal::Outside(_) => "AddressOutsidePool",
            Refusal::Taken(..) => "AddressInUse",
            Refusal::Full(_) => "PoolExhausted",
            Refusal::None(_) => "NoPool",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Outside(address) => {
                write!(f, "spec.loadBalancerIP {address} is not in the pool of load balancer addresses")
            }
            Refusal::Taken(address, holder) => write!(f, "spec.loadBalancerIP {address} is Service {holder}'s"),
            Refusal::Full(family) => write!(f, "every {} address of the load balancer pool is given away", family.name()),
            Refusal::None(family) => write!(f, "the load balancer pool has no {} addresses", family.name()),
        }
    }
}

/// See the module. What statuses say counts as well as what was given just now and is not in a status yet.
#[derive(Debug)]
pub(super) struct Pool {
    ranges: Vec<Range>,
    given: BTreeMap<IpAddr, Key>,
    said: BTreeMap<IpAddr, BTreeSet<Key>>,
}

/// A range, and where to look next: an address that was freed just now may still be in caches.
#[derive(Debug)]
struct Range {
    net: IpNet,
    next: u128,
}

impl Pool {
    pub(super) fn new(ranges: &[IpNet]) -> Self {
        let ranges = ranges.iter().map(|net| Range { net: net.trunc(), next: 0 }).collect();
        Self { ranges, given: BTreeMap::new(), said: BTreeMap::new() }
    }

    /// Whether an address is this pool's to give. The first and last of an IPv4 range are not: they may be
    /// the subnet's own; nor is the first of an IPv6 range, the routers' anycast address (RFC 4291, 2.6.1).
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.number(address).is_some_and(|number| range.has(number)))
    }

    /// A Service's status says other addresses than before. True when one may have become free.
    pub(super) fn note(&mut self, key: &Key, before: &[IpAddr], after: &[IpAddr]) -> bool {
        for address in after {
            self.said.entry(*address).or_default().insert(key.clone());
        }
        let gone: Vec<&IpAddr> = before.iter().filter(|address| !after.contains(address)).collect();
        for address in &gone {
            if let Some(keys) = self.said.get_mut(address) {
                keys.remove(key);
                if keys.is_empty() {
                    self.said.remove(address);
                }
            }
        }
        gone.into_iter().any(|address| self.contains(*address))
    }

    /// Gives a Service the address that it asks for.
    pub(super) fn take(&mut self, key: &Key, address: IpAddr) -> Result<IpAddr, Refusal> {
        if !self.contains(address) {
            return Err(Refusal::Outside(address));
        }
        let others = self.said.get(&address).into_iter().flatten();
        match self.given.get(&address).into_iter().chain(others).find(|holder| *holder != key) {
            Some(holder) => Err(Refusal::Taken(address, holder.clone())),
            None => Ok(self.give(key, address)),
        }
    }

    /// Lets a Service keep the address that its status says, unless it was given to another, or is none of
    /// this pool's.
    pub(super) fn keep(&mut self, key: &Key, address: IpAddr) -> Option<IpAddr> {
        let anothers = self.given.get(&address).is_some_and(|holder| holder != key);
        (self.contains(address) && !anothers).then(|| self.give(key, address))
    }

    /// Gives a Service any free address; the one that it was given before, where that is in no status
    /// because it could not be written.
    pub(super) fn any(&mut self, key: &Key, family: Family) -> Result<IpAddr, Refusal> {
        let mut own = self.given.iter().filter(|(_, holder)| *holder == key).map(|(address, _)| *address);
        if let Some(own) = own.find(|address| Family::of(address) == family) {
            return Ok(own);
        }
        let (given, said) = (&self.given, &self.said);
        let free = |address: &IpAddr| !given.contains_key(address) && !said.contains_key(address);
        let mut of_family = self.ranges.iter_mut().filter(|range| range.family() == family).peekable();
        if of_family.peek().is_none() {
            return Err(Refusal::None(family));
        }
        let used = (given.len() + said.len()) as u128;
        let found = of_family.find_map(|range| range.find(used, free));
        found.map(|address| self.give(key, address)).ok_or(Refusal::Full(family))
    }

    fn give(&mut self, key: &Key, address: IpAddr) -> IpAddr {
        self.given.insert(address, key.clone());
        address
    }

    /// Takes back what a Service was given, but for these. True when there was something.
    pub(super) fn release(&mut self, key: &Key, but: &[IpAddr]) -> bool {
        let before = self.given.len();
        self.given.retain(|address, holder| holder != key || but.contains(address));
        self.given.len() < before
    }
}

impl Range {
    fn family(&self) -> Family {
        Family::of(&self.net.addr())
    }

    fn size(&self) -> u128 {
        let bits = u32::from(self.net.max_prefix_len() - self.net.prefix_len());
        1u128.checked_shl(bits).unwrap_or(u128::MAX)
    }

    /// Which of the range an address is.
    fn number(&self, address: IpAddr) -> Option<u128> {
        if !self.net.contains(&address) {
            return None;
        }
        match (address, self.net.network()) {
            (IpAddr::V4(it), IpAddr::V4(first)) => Some(u128::from(u32::from(it) - u32::from(first))),
            (IpAddr::V6(it), IpAddr::V6(first)) => Some(u128::from(it) - u128::from(first)),
            _ => None,
        }
    }

    fn has(&self, number: u128) -> bool {
        let size = self.size();
        let is_first = number == 0;
        let is_last = number == size - 1;
        size <= 2 || !(is_first || (is_last && self.net.addr().is_ipv4()))
    }

    fn at(&self, number: u128) -> IpAddr {
        match self.net.network() {
            // A range has no more numbers than its family has addresses.
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).wrapping_add(number as u32)).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).wrapping_add(number)).into(),
        }
    }

    /// The next free address. Of `used + 3` numbers one is free or there is none: at most two are never given.
    fn find(&mut self, used: u128, free: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let size = self.size();
        for step in 0..size.min(used + 3) {
            let number = (self.next + step) % size;
            let address = self.at(number);
            if self.has(number) && free(&address) {
                self.next = (number + 1) % size;
                return Some(address);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("shop", name)
    }

    #[test]
    fn what_was_given_and_could_not_be_written_is_given_again() {
        let mut pool = Pool::new(&["192.0.2.0/30".parse().unwrap()]);
        let all = [pool.any(&key("a"), Family::V4), pool.any(&key("b"), Family::V4)];
        assert_eq!(pool.any(&key("a"), Family::V4), all[0]);
        assert_eq!(pool.any(&key("c"), Family::V4), Err(Refusal::Full(Family::V4)));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool() -> Pool {
        Pool::new(&["10.240.255.248/29".parse().unwrap(), "fd00:240::ff00/126".parse().unwrap()])
    }

    #[test]
    fn addresses_are_given_once_until_none_is_left_and_again_when_one_is_free() {
        let mut pool = pool();
        let given: Vec<String> =
            (0..6).map(|i| pool.any(&key(&i.to_string()), Family::V4).unwrap().to_string()).collect();
        let last: Vec<u8> = (249..255).collect();
        assert_eq!(given, last.iter().map(|it| format!("10.240.255.{it}")).collect::<Vec<_>>());
        assert_eq!(pool.any(&key("late"), Family::V4), Err(Refusal::Full(Family::V4)));
        assert_eq!(pool.any(&key("0"), Family::V6), Ok(ip("fd00:240::ff01")));
        assert!(pool.release(&key("3"), &[]));
        assert_eq!(pool.any(&key("late"), Family::V4), Ok(ip("10.240.255.252")));
        assert!(!pool.release(&key("late"), &[ip("10.240.255.252")]));
    }

    #[test]
    fn what_a_status_says_is_its_services_though_nothing_was_given_yet() {
        let mut pool = pool();
        pool.note(&key("old"), &[], &[ip("10.240.255.249")]);
        assert_eq!(pool.any(&key("new"), Family::V4), Ok(ip("10.240.255.250")));
        let asked = pool.take(&key("new"), ip("10.240.255.249"));
        assert_eq!(asked, Err(Refusal::Taken(ip("10.240.255.249"), key("old"))));
        assert_eq!(pool.keep(&key("old"), ip("10.240.255.249")), Some(ip("10.240.255.249")));
        assert_eq!(pool.keep(&key("copy"), ip("10.240.255.249")), None, "a copy of its status is no claim");
        assert!(pool.note(&key("old"), &[ip("10.240.255.249")], &[]));
        pool.release(&key("old"), &[]);
        assert_eq!(pool.take(&key("new"), ip("10.240.255.249")), Ok(ip("10.240.255.249")));
    }

    #[test]
    fn the_ends_of_a_range_and_what_is_outside_are_not_given() {
        let mut pool = pool();
        for outside in ["10.240.255.248", "10.240.255.255", "10.240.0.1", "fd00:240::ff00", "fd00:240::1"] {
            assert_eq!(pool.take(&key("a"), ip(outside)), Err(Refusal::Outside(ip(outside))));
        }
        assert_eq!(pool.take(&key("a"), ip("fd00:240::ff03")), Ok(ip("fd00:240::ff03")));
        let mut one = Pool::new(&["192.0.2.7/32".parse().unwrap()]);
        assert_eq!(one.any(&key("a"), Family::V4), Ok(ip("192.0.2.7")));
        assert_eq!(one.any(&key("a"), Family::V6), Err(Refusal::None(Family::V6)));
    }
}
