//! Which generation slot stands for which addresses.
//!
//! A flow remembers the generations of both ends' slots; raising one makes the flows of its addresses
//! ask policy again. Slots are computed, not allocated: there is no state to lose at a restart, and
//! two prefixes that share one only ask more often than they must.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Result;
use crate::table::Table;

/// As `GENERATION_SLOTS` in `bpf/lib/maps.h`.
const SLOTS: u32 = 1 << 16;

/// The slot of addresses that match no class row.
pub(crate) const NO_ROW: u32 = 0;

/// The slot of a class row, and of a pod's address as a host prefix.
pub(crate) fn slot_of(prefix: IpNet) -> u32 {
    let bits = match prefix.network() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mixed = mix(mix(bits as u64) ^ (bits >> 64) as u64 ^ (u64::from(prefix.prefix_len()) << 56));
    1 + (mixed % u64::from(SLOTS - 1)) as u32
}

/// The finaliser of splitmix64 spreads neighbouring addresses over all slots.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The slot of a single address.
pub(crate) fn slot_of_host(address: IpAddr) -> u32 {
    slot_of(IpNet::from(address))
}

/// Slots to raise once the rows are written.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    slots: BTreeSet<u32>,
    all: bool,
}

impl Stale {
    pub(crate) fn slot(&mut self, slot: u32) {
        self.slots.insert(slot);
    }

    /// A row changed that says nothing about addresses: everybody asks again.
    pub(crate) fn everything(&mut self) {
        self.all = true;
    }

    /// Raises what was collected and starts anew.
    pub(crate) fn raise(&mut self, generations: &Table<u32, u32>) -> Result<()> {
        let Self { slots, all } = std::mem::take(self);
        if all {
            return (0..SLOTS).try_for_each(|slot| raise(generations, slot));
        }
        slots.into_iter().try_for_each(|slot| raise(generations, slot))
    }
}

/// Only this process writes generations, so reading and writing need not be one step.
fn raise(generations: &Table<u32, u32>, slot: u32) -> Result<()> {
    let value = generations.get(&slot)?.unwrap_or(0);
    generations.put(&slot, &value.wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_of_a_block_spread_over_the_slots() {
        for block in ["10.244.0.0/20", "fd00:10:244::/116"] {
            let block: IpNet = block.parse().unwrap();
            let slots: BTreeSet<u32> = block.hosts().take(4_094).map(slot_of_host).collect();
            assert!(slots.len() > 3_800, "{} slots for 4094 addresses of {block}", slots.len());
            assert!(slots.iter().all(|slot| (1..SLOTS).contains(slot)));
        }
    }

    #[test]
    fn a_prefix_and_its_first_address_differ() {
        let block: IpNet = "10.244.0.0/24".parse().unwrap();
        assert_ne!(slot_of(block), slot_of_host(block.network()));
    }
}
