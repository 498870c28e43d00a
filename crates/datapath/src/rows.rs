//! Logical rows to bytes and back. The formats are explained in `bpf/abi.h`.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kilter_model::{Direction, PortRange, Protocol};
use kilter_policy::{ClassId, Decision, Interval, PostureId, ProtocolClass, RuleId, SetId, Verdict};
use kilter_services::{Backend, Flags, Frontend, FrontendRow, Scope};

use crate::loader::{address, wire};
use crate::ranges::{prefixes, range_of};
use crate::skel::types;

/// Bits of a `set_key` that name the set, and all of them.
const SET_BITS: u32 = 32;
const EXCEPTION_BITS: u32 = 64;
/// Bits of an `interval_key` before the port.
const INTERVAL_BITS: u32 = 48;

/// The bits that the mapped form puts before an IPv4 address.
const MAPPED_BITS: u8 = 96;

/// A block in the form that all addresses have in the kernel.
fn mapped(prefix: IpNet) -> Ipv6Net {
    let mapped = match prefix {
        IpNet::V4(v4) => Ipv6Net::new(v4.network().to_ipv6_mapped(), MAPPED_BITS + v4.prefix_len()),
        IpNet::V6(v6) => Ok(v6.trunc()),
    };
    // An IPv4 prefix has at most 32 bits.
    mapped.unwrap_or_default()
}

/// A block that the mask of its length selects.
pub(crate) fn block(prefix: IpNet) -> types::block {
    let mapped = mapped(prefix);
    types::block { network: wire(mapped.network().into()), mask: wire(mapped.netmask().into()) }
}

pub(crate) fn prefix_key(prefix: IpNet) -> types::class_key {
    let mapped = mapped(prefix);
    let octets = mapped.network().octets();
    let words = octets.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let mut address = [0; 4];
    address.iter_mut().zip(words).for_each(|(to, from)| *to = from);
    types::class_key { prefixlen: mapped.prefix_len().into(), address }
}

pub(crate) fn prefix_of(key: &types::class_key) -> Option<IpNet> {
    let mut octets = [0; 16];
    octets
        .chunks_exact_mut(4)
        .zip(key.address)
        .for_each(|(to, from)| to.copy_from_slice(&from.to_ne_bytes()));
    let (address, bits) = (Ipv6Addr::from(octets), u8::try_from(key.prefixlen).ok()?);
    match (address.to_ipv4_mapped(), bits.checked_sub(MAPPED_BITS)) {
        (Some(v4), Some(bits)) => Ipv4Net::new(v4, bits).map(IpNet::V4).ok(),
        _ => Ipv6Net::new(address, bits).map(IpNet::V6).ok(),
    }
}

/// The key of a set's default, or of its exception for a class.
pub(crate) fn set_key(set: SetId, class: Option<ClassId>) -> types::set_key {
    let prefixlen = if class.is_some() { EXCEPTION_BITS } else { SET_BITS };
    types::set_key { prefixlen, set: set.0.to_be(), class_id: class.map_or(0, |class| class.0.to_be()) }
}

pub(crate) fn set_of(key: &types::set_key) -> (SetId, Option<ClassId>) {
    let class = (key.prefixlen == EXCEPTION_BITS).then(|| ClassId(u32::from_be(key.class_id)));
    (SetId(u32::from_be(key.set)), class)
}

pub(crate) fn decision_row(decision: Decision) -> types::decision {
    types::decision { rule: decision.rule.0, allow: decision.verdict.is_allow().into() }
}

pub(crate) fn decision_of(row: &types::decision) -> Decision {
    let verdict = if row.allow != 0 { Verdict::Allow } else { Verdict::Deny };
    Decision { verdict, rule: RuleId(row.rule) }
}

fn direction_number(direction: Direction) -> u8 {
    match direction {
        Direction::Egress => types::direction::EGRESS.0 as u8,
        Direction::Ingress => types::direction::INGRESS.0 as u8,
    }
}

/// The keys of an interval: one for each prefix of its ports. What has no ports is looked up with
/// port 0, which every prefix of no bits matches.
pub(crate) fn interval_keys(interval: &Interval) -> Vec<types::interval_key> {
    let key = |(port, bits): (u16, u32)| types::interval_key {
        prefixlen: INTERVAL_BITS + bits,
        posture: interval.posture.0.to_be(),
        direction: direction_number(interval.direction),
        protocol: interval.protocol.number(),
        port: port.to_be(),
    };
    prefixes(interval.ports).into_iter().map(key).collect()
}

pub(crate) fn interval_row(interval: &Interval, set: SetId) -> types::interval_row {
    types::interval_row { set: set.0, first: interval.ports.first, last: interval.ports.last }
}

/// The whole interval that a row belongs to, and the ports of this row alone.
pub(crate) fn interval_of(
    key: &types::interval_key,
    row: &types::interval_row,
) -> Option<(Interval, PortRange, SetId)> {
    let protocol = ProtocolClass::of(key.protocol);
    let interval = Interval {
        posture: PostureId(u32::from_be(key.posture)),
        direction: if u32::from(key.direction) == types::direction::EGRESS.0 {
            Direction::Egress
        } else {
            Direction::Ingress
        },
        protocol,
        ports: PortRange { first: row.first, last: row.last },
    };
    let bits = key.prefixlen.checked_sub(INTERVAL_BITS)?;
    Some((interval, range_of(u16::from_be(key.port), bits), SetId(row.set)))
}

pub(crate) fn frontend_key(frontend: &Frontend) -> types::frontend {
    types::frontend {
        address: wire(frontend.address),
        port: frontend.port.to_be(),
        protocol: frontend.protocol.number(),
        scope: scope_number(frontend.scope),
        ..Default::default()
    }
}

fn scope_number(scope: Scope) -> u8 {
    let number = match scope {
        Scope::Inside => types::scope::SCOPE_INSIDE,
        Scope::Outside => types::scope::SCOPE_OUTSIDE,
    };
    number.0 as u8
}

pub(crate) fn frontend_of(key: &types::frontend) -> Option<Frontend> {
    Some(Frontend {
        address: address(key.address),
        port: u16::from_be(key.port),
        protocol: Protocol::from_number(key.protocol)?,
        scope: [Scope::Inside, Scope::Outside].into_iter().find(|it| scope_number(*it) == key.scope)?,
    })
}

const OWN_NODE: u32 = types::frontend_flag::FRONTEND_OWN_NODE.0;
const SILENT: u32 = types::frontend_flag::FRONTEND_SILENT.0;
const RESTRICTED: u32 = types::frontend_flag::FRONTEND_RESTRICTED.0;
const RETRIES: u32 = types::frontend_flag::FRONTEND_RETRIES.0;
const GIVES_UP: u32 = types::frontend_flag::FRONTEND_GIVES_UP.0;
const DSR: u32 = types::frontend_flag::FRONTEND_DSR.0;

pub(crate) fn frontend_row(row: &FrontendRow) -> types::frontend_row {
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    let Flags { own_node, silent, restricted, retry, dsr } = row.flags;
    let retry = flag(retry == Some(true), RETRIES) | flag(retry == Some(false), GIVES_UP);
    let flags = flag(own_node, OWN_NODE) | flag(silent, SILENT) | flag(restricted, RESTRICTED) | flag(dsr, DSR);
    let flags = flags | retry | row.places << PLACES_SHIFT;
    types::frontend_row { revision: row.revision, count: row.count, flags, affinity: row.affinity }
}

pub(crate) fn frontend_row_of(row: &types::frontend_row) -> FrontendRow {
    let is = |flag: u32| row.flags & flag != 0;
    let retry = (is(RETRIES) || is(GIVES_UP)).then_some(is(RETRIES));
    let [own_node, silent, restricted, dsr] = [OWN_NODE, SILENT, RESTRICTED, DSR].map(is);
    let flags = Flags { own_node, silent, restricted, retry, dsr };
    let places = row.flags >> PLACES_SHIFT;
    FrontendRow { revision: row.revision, count: row.count, flags, affinity: row.affinity, places }
}

/// Above the flags: how many places the table has.
const PLACES_SHIFT: u32 = types::frontend_flag::FRONTEND_PLACES_SHIFT.0;

/// Bits of a `source_key` before the range's.
const SOURCE_BITS: u32 = 32;

pub(crate) fn source_key(revision: u32, range: IpNet) -> types::source_key {
    let types::class_key { prefixlen, address } = prefix_key(range);
    types::source_key { prefixlen: SOURCE_BITS + prefixlen, revision: revision.to_be(), address }
}

pub(crate) fn source_of(key: &types::source_key) -> Option<(u32, IpNet)> {
    let prefixlen = key.prefixlen.checked_sub(SOURCE_BITS)?;
    let range = prefix_of(&types::class_key { prefixlen, address: key.address })?;
    Some((u32::from_be(key.revision), range))
}

pub(crate) fn backend_row(backend: &Backend) -> types::backend {
    types::backend { address: wire(backend.address), port: backend.port.to_be(), ..Default::default() }
}

pub(crate) fn backend_of(row: &types::backend) -> Backend {
    Backend { address: address(row.address), port: u16::from_be(row.port) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_comes_back_whole_from_each_of_its_rows() {
        let interval = Interval {
            posture: PostureId(7),
            direction: Direction::Ingress,
            protocol: ProtocolClass::Udp,
            ports: PortRange { first: 1000, last: 2000 },
        };
        let row = interval_row(&interval, SetId(5));
        let keys = interval_keys(&interval);
        let back: Vec<_> = keys.iter().map(|key| interval_of(key, &row).unwrap()).collect();
        assert!(back.iter().all(|(whole, _, set)| (*whole, *set) == (interval, SetId(5))));
        let ports: u32 = back.iter().map(|(_, part, _)| u32::from(part.last - part.first) + 1).sum();
        assert_eq!(ports, 1001);
    }

    #[test]
    fn blocks_come_back_and_those_of_one_family_do_not_contain_the_other() {
        for text in ["0.0.0.0/0", "10.244.1.0/24", "10.0.0.1/32", "::/0", "fd00::/64", "2001:db8::1/128"] {
            let prefix: IpNet = text.parse().unwrap();
            assert_eq!(prefix_of(&prefix_key(prefix)), Some(prefix));
        }
        assert_eq!(prefix_key("0.0.0.0/0".parse().unwrap()).prefixlen, 96);
        assert_ne!(wire("10.0.0.1".parse().unwrap()).half, wire("::a00:1".parse().unwrap()).half);
    }

    #[test]
    fn a_default_and_an_exception_have_different_keys() {
        let (default, exception) = (set_key(SetId(3), None), set_key(SetId(3), Some(ClassId(1))));
        assert_eq!(set_of(&default), (SetId(3), None));
        assert_eq!(set_of(&exception), (SetId(3), Some(ClassId(1))));
        assert!(default.prefixlen < exception.prefixlen);
    }
}
