//! Logical rows to bytes and back. The formats are explained in `bpf/abi.h`.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use kilter_model::{Direction, PortRange, Protocol};
use kilter_policy::{ClassId, Decision, Interval, PostureId, ProtocolClass, RuleId, SetId, Verdict};
use kilter_services::{Backend, Frontend};

use crate::loader::{address, wire};
use crate::ranges::{prefixes, range_of};
use crate::skel::types;

/// Bits of a `set_key` that name the set, and all of them.
const SET_BITS: u32 = 32;
const EXCEPTION_BITS: u32 = 64;
/// Bits of an `interval_key` before the port.
const INTERVAL_BITS: u32 = 48;

pub(crate) fn prefix_key(prefix: Ipv4Net) -> types::class_key {
    types::class_key { prefixlen: prefix.prefix_len().into(), address: wire(prefix.network()) }
}

pub(crate) fn prefix_of(key: &types::class_key) -> Option<Ipv4Net> {
    Ipv4Net::new(address(key.address), u8::try_from(key.prefixlen).ok()?).ok()
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

/// `None` for IPv6, which has no rows yet.
pub(crate) fn frontend_key(frontend: &Frontend) -> Option<types::frontend> {
    let IpAddr::V4(v4) = frontend.address else { return None };
    Some(types::frontend {
        address: wire(v4),
        port: frontend.port.to_be(),
        protocol: frontend.protocol.number(),
        pad: 0,
    })
}

pub(crate) fn frontend_of(key: &types::frontend) -> Option<Frontend> {
    Some(Frontend {
        address: IpAddr::V4(address(key.address)),
        port: u16::from_be(key.port),
        protocol: Protocol::from_number(key.protocol)?,
    })
}

/// `None` for IPv6, which has no rows yet.
pub(crate) fn backend_row(backend: &Backend) -> Option<types::backend> {
    let IpAddr::V4(v4) = backend.address else { return None };
    Some(types::backend { address: wire(v4), port: backend.port.to_be(), pad: [0; 2] })
}

pub(crate) fn backend_of(row: &types::backend) -> Backend {
    Backend { address: IpAddr::V4(address(row.address)), port: u16::from_be(row.port) }
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
    fn a_default_and_an_exception_have_different_keys() {
        let (default, exception) = (set_key(SetId(3), None), set_key(SetId(3), Some(ClassId(1))));
        assert_eq!(set_of(&default), (SetId(3), None));
        assert_eq!(set_of(&exception), (SetId(3), Some(ClassId(1))));
        assert!(default.prefixlen < exception.prefixlen);
    }
}
