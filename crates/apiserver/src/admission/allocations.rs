use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard};

use ipnet::Ipv4Net;

/// Ports that Services of type NodePort get.
pub const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// What one Service holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    pub address: Option<Ipv4Addr>,
    pub ports: BTreeSet<u16>,
}

#[derive(Debug, Default)]
struct State {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
    last_port: u16,
    last_address: u32,
}

/// Which cluster IPs and node ports are taken.
#[derive(Debug)]
pub struct Allocations {
    cidr: Ipv4Net,
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
    pub fn new(cidr: Ipv4Net) -> Self {
        Self { cidr, state: Mutex::default() }
    }

    pub fn cidr(&self) -> Ipv4Net {
        self.cidr
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
        if let Some(address) = held.address {
            state.addresses.remove(&address);
        }
        for port in &held.ports {
            state.ports.remove(port);
        }
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
    pub fn address(&mut self, address: Ipv4Addr) -> Result<(), Refusal> {
        let cidr = self.allocations.cidr;
        let usable = address != cidr.network() && address != cidr.broadcast();
        if !cidr.contains(&address) || !usable {
            return Err(Refusal::OutOfRange);
        }
        self.wanted.address = Some(address);
        if self.held.address == Some(address) {
            return Ok(());
        }
        let mut state = self.allocations.lock();
        if !state.addresses.insert(address) {
            return Err(Refusal::Taken);
        }
        self.taken.address = Some(address);
        Ok(())
    }

    /// Any address: from the upper part of the range first, so that the lower one stays free for
    /// people who ask for a certain address (KEP-3070).
    pub fn any_address(&mut self) -> Result<Ipv4Addr, Refusal> {
        let cidr = self.allocations.cidr;
        let (first, last) =
            (u32::from(cidr.network()).saturating_add(1), u32::from(cidr.broadcast()).saturating_sub(1));
        let size = u64::from(last.saturating_sub(first)) + 2;
        let low = u32::try_from((size / 16).clamp(16, 256)).unwrap_or(256);
        let band = first.saturating_add(low - 1).min(last);
        let mut state = self.allocations.lock();
        let after = state.last_address.max(band);
        let order = (after.saturating_add(1)..=last).chain(band..=after.min(last)).chain(first..band);
        let free =
            order.map(Ipv4Addr::from).find(|a| !state.addresses.contains(a)).ok_or(Refusal::Exhausted)?;
        state.last_address = free.into();
        state.addresses.insert(free);
        self.taken.address = Some(free);
        self.wanted.address = Some(free);
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
        if let Some(old) = self.held.address.filter(|a| self.wanted.address != Some(*a)) {
            state.addresses.remove(&old);
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
        if let Some(address) = self.taken.address {
            state.addresses.remove(&address);
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
        Allocations::new(cidr.parse().expect("a CIDR"))
    }

    #[test]
    fn addresses_are_unique_and_come_back() {
        let all = allocations("10.96.0.0/16");
        let mut one = all.reserve(Claims::default());
        let address = one.any_address().expect("free");
        assert_eq!(address, Ipv4Addr::new(10, 96, 1, 1));
        assert_eq!(all.reserve(Claims::default()).address(address), Err(Refusal::Taken));
        drop(one);
        let mut two = all.reserve(Claims::default());
        assert_eq!(two.address(address), Ok(()));
        two.commit();
        all.release(&Claims { address: Some(address), ports: BTreeSet::new() });
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
            assert!(reservation.any_address().is_ok(), "{i}");
            reservation.commit();
        }
        assert_eq!(all.reserve(Claims::default()).any_address(), Err(Refusal::Exhausted));
    }

    #[test]
    fn an_update_gives_back_what_it_no_longer_wants() {
        let all = allocations("10.96.0.0/24");
        let mut first = all.reserve(Claims::default());
        let port = first.any_port().expect("free");
        first.commit();
        let held = Claims { address: None, ports: BTreeSet::from([port]) };
        let mut second = all.reserve(held);
        assert_eq!(second.port(port), Ok(()));
        let other = second.any_port().expect("free");
        drop(second);
        let held = Claims { address: None, ports: BTreeSet::from([port]) };
        let mut third = all.reserve(held);
        assert_eq!(third.port(other), Ok(()));
        third.commit();
        assert_eq!(all.reserve(Claims::default()).port(port), Ok(()));
    }
}
