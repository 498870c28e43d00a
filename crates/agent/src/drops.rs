//! Events of the data plane, in words.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use kilter_datapath::Event;
use kilter_policy::RuleId;
use kilter_wire::control::Drop;

/// A refused packet as it is told to others; `None` for other events.
pub fn describe(node: &str, event: &Event, rule_text: impl Fn(RuleId) -> Option<String>) -> Option<Drop> {
    let Event::Drop { at, direction, from, to, protocol, reason, rule, .. } = event else { return None };
    Some(Drop {
        node: node.to_owned(),
        at: micros(*at),
        direction: direction.to_string(),
        from: pair(*from),
        to: pair(*to),
        protocol: protocol_name(*protocol),
        reason: reason.to_string(),
        rule: rule.and_then(rule_text),
    })
}

fn micros(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

fn pair(address: SocketAddr) -> (std::net::IpAddr, u16) {
    (address.ip(), address.port())
}

/// The names that people use; other protocols by number (IANA protocol numbers).
fn protocol_name(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use kilter_datapath::DropReason;
    use kilter_model::Direction;

    use super::*;

    #[test]
    fn a_drop_is_told_with_its_rule() {
        let event = Event::Drop {
            at: UNIX_EPOCH + std::time::Duration::from_micros(1_500_000),
            direction: Direction::Ingress,
            from: "10.244.1.2:40000".parse().unwrap(),
            to: "10.244.1.3:80".parse().unwrap(),
            protocol: 6,
            reason: DropReason::Policy,
            rule: Some(RuleId(7)),
            ifindex: 3,
        };
        let drop = describe("node-1", &event, |rule| Some(format!("rule {rule}"))).unwrap();
        assert_eq!((drop.at, drop.direction.as_str(), drop.protocol.as_str()), (1_500_000, "ingress", "TCP"));
        assert_eq!((drop.reason.as_str(), drop.rule.as_deref()), ("policy", Some("rule 7")));
    }
}
