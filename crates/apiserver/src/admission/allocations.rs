use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use ipnet::IpNet;
use kilter_model::Family;

/// Ports that Services of type NodePort get.
pub const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// What one Service holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    pub addresses: BTreeSet<IpAddr>,
    pub ports: BTreeSet<u16>,
}

#[derive(Debug, Default)]
struct State {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    last_port: u16,
    last_address: BTreeMap<Family, u128>,
}

/// Which cluster IPs and node ports are taken.
#[derive(Debug)]
pub struct Allocations {
    ranges: Vec<IpNet>,
    state: Mutex<State>,
}

/// Why an address or a port cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Taken,
    OutOfRange,
    Exhausted,
}

impl Allocations {
    /// Of these ranges, at most one of each family.
    pub fn new(ranges: Vec<IpNet>) -> Self {
        Self { ranges, state: Mutex::default() }
    }

    /// The families that there are addresses of, the default first.
    pub fn families(&self) -> Vec<Family> {
        self.ranges.iter().map(|range| Family::of(&range.addr())).collect()
    }

    /// The range of a family.
    pub fn net(&self, family: Family) -> Option<IpNet> {
        self.ranges.iter().find(|range| Family::of(&range.addr()) == family).copied()
    }

    fn range(&self, family: Family) -> Option<Range> {
        self.net(family).as_ref().map(Range::of)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts an allocation for a Service that holds `held`. What is taken is given back when the
    /// reservation is dropped without [`Reservation::commit`].
    pub fn reserve(&self, held: Claims) -> Reservation<'_> {
        Reservation { allocations: self, held, taken: Claims::default(), wanted: Claims::default() }
    }

    /// Gives back what a Service held. By what, not by whom: one of the same name may already hold
    /// something else.
    pub fn release(&self, held: &Claims) {
        let mut state = self.lock();
        for address in &held.addresses {
            state.addresses.remove(address);
        }
        for port in &held.ports {
            state.ports.remove(port);
        }
    }
}

/// The usable addresses of a range, as numbers: not the network's own, nor IPv4's broadcast address.
struct Range {
    net: IpNet,
    first: u128,
    last: u128,
}

impl Range {
    fn of(net: &IpNet) -> Self {
        let net = net.trunc();
        let broadcast = u128::from(net.addr().is_ipv4());
        Self { net, first: number(net.network()) + 1, last: number(net.broadcast()) - broadcast }
    }

    fn covers(&self, address: IpAddr) -> bool {
        self.net.contains(&address) && (self.first..=self.last).contains(&number(address))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.net {
            IpNet::V4(_) => std::net::Ipv4Addr::from(number as u32).into(),
            IpNet::V6(_) => std::net::Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// Addresses and ports that a Service is about to have.
#[derive(Debug)]
pub struct Reservation<'a> {
    allocations: &'a Allocations,
    held: Claims,
    taken: Claims,
    wanted: Claims,
}

impl Reservation<'_> {
    /// This address.
    pub fn address(&mut self, address: IpAddr) -> Result<(), Refusal> {
        if !self.allocations.range(Family::of(&address)).is_some_and(|range| range.covers(address)) {
            return Err(Refusal::OutOfRange);
        }
        self.wanted.addresses.insert(address);
        if self.held.addresses.contains(&address) {
            return Ok(());
        }
        let mut state = self.allocations.lock();
        if !state.addresses.insert(address) {
            return Err(Refusal::Taken);
        }
        self.taken.addresses.insert(address);
        Ok(())
    }

    /// Any address of a family: from the upper part of the range first, so that the lower one stays
    /// free for people who ask for a certain address (KEP-3070).
    pub fn any_address(&mut self, family: Family) -> Result<IpAddr, Refusal> {
        let range = self.allocations.range(family).ok_or(Refusal::Exhausted)?;
        let low = (range.last.saturating_sub(range.first).saturating_add(2) / 16).clamp(16, 256);
        let band = range.first.saturating_add(low - 1).min(range.last);
        let mut state = self.allocations.lock();
        let after = state.last_address.get(&family).copied().unwrap_or_default().max(band);
        let order = (after.saturating_add(1)..=range.last)
            .chain(band..=after.min(range.last))
            .chain(range.first..band);
        let free = order
            .map(|number| (number, range.address(number)))
            .find(|(_, address)| !state.addresses.contains(address));
        let (number, free) = free.ok_or(Refusal::Exhausted)?;
        state.last_address.insert(family, number);
        state.addresses.insert(free);
        self.taken.addresses.insert(free);
        self.wanted.addresses.insert(free);
        Ok(free)
    }

    /// This node port.
    pub fn port(&mut self, port: u16) -> Result<(), Refusal> {
        if !NODE_PORTS.contains(&port) {
            return Err(Refusal::OutOfRange);
        }
        // Two ports of one Service may share a node port (TCP and UDP).
        if !self.held.ports.contains(&port) && !self.wanted.ports.contains(&port) {
            let mut state = self.allocations.lock();
            if !state.ports.insert(port) {
                return Err(Refusal::Taken);
            }
            self.taken.ports.insert(port);
        }
        self.wanted.ports.insert(port);
        Ok(())
    }

    /// Any node port.
    pub fn any_port(&mut self) -> Result<u16, Refusal> {
        let mut state = self.allocations.lock();
        let (first, last) = (*NODE_PORTS.start(), *NODE_PORTS.end());
        let after = state.last_port.clamp(first - 1, last);
        let mut order = (after + 1..=last).chain(first..=after);
        let free = order.find(|p| !state.ports.contains(p)).ok_or(Refusal::Exhausted)?;
        state.last_port = free;
        state.ports.insert(free);
        self.taken.ports.insert(free);
        self.wanted.ports.insert(free);
        Ok(free)
    }

    /// The Service is stored: it keeps what it wanted and gives back what it no longer wants.
    pub fn commit(mut self) {
        let mut state = self.allocations.lock();
        for address in self.held.addresses.difference(&self.wanted.addresses) {
            state.addresses.remove(address);
        }
        for port in self.held.ports.difference(&self.wanted.ports) {
            state.ports.remove(port);
        }
        drop(state);
        self.taken = Claims::default();
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.allocations.lock();
        for address in &self.taken.addresses {
            state.addresses.remove(address);
        }
        for port in &self.taken.ports {
            state.ports.remove(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocations(cidr: &str) -> Allocations {
        Allocations::new(vec![cidr.parse().expect("a CIDR")])
    }

    #[test]
    fn addresses_are_unique_and_come_back() {
        let all = allocations("10.96.0.0/16");
        let mut one = all.reserve(Claims::default());
        let address = one.any_address(Family::V4).expect("free");
        assert_eq!(address, IpAddr::from([10, 96, 1, 1]));
        assert_eq!(all.reserve(Claims::default()).address(address), Err(Refusal::Taken));
        drop(one);
        let mut two = all.reserve(Claims::default());
        assert_eq!(two.address(address), Ok(()));
        two.commit();
        all.release(&Claims { addresses: BTreeSet::from([address]), ports: BTreeSet::new() });
        assert_eq!(all.reserve(Claims::default()).address(address), Ok(()));
    }

    #[test]
    fn the_ends_of_the_range_and_other_ranges_are_refused() {
        let all = allocations("10.96.0.0/24");
        for bad in ["10.96.0.0", "10.96.0.255", "10.97.0.1"] {
            let refused = all.reserve(Claims::default()).address(bad.parse().expect("an address"));
            assert_eq!(refused, Err(Refusal::OutOfRange), "{bad}");
        }
        assert_eq!(all.reserve(Claims::default()).port(29_999), Err(Refusal::OutOfRange));
    }

    #[test]
    fn a_small_range_is_used_up_to_its_last_address() {
        let all = allocations("10.96.0.0/27");
        for i in 0..30 {
            let mut reservation = all.reserve(Claims::default());
            assert!(reservation.any_address(Family::V4).is_ok(), "{i}");
            reservation.commit();
        }
        assert_eq!(all.reserve(Claims::default()).any_address(Family::V4), Err(Refusal::Exhausted));
    }

    #[test]
    fn an_update_gives_back_what_it_no_longer_wants() {
        let all = allocations("10.96.0.0/24");
        let mut first = all.reserve(Claims::default());
        let port = first.any_port().expect("free");
        first.commit();
        let held = Claims { ports: BTreeSet::from([port]), ..Claims::default() };
        let mut second = all.reserve(held);
        assert_eq!(second.port(port), Ok(()));
        let other = second.any_port().expect("free");
        drop(second);
        let held = Claims { ports: BTreeSet::from([port]), ..Claims::default() };
        let mut third = all.reserve(held);
        assert_eq!(third.port(other), Ok(()));
        third.commit();
        assert_eq!(all.reserve(Claims::default()).port(port), Ok(()));
    }
}
