//! What the data plane reports, in words: refused packets, opened connections, tracked connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use kilter_datapath::{Datapath, Event};
use kilter_model::Direction;
use kilter_policy::RuleId;
use kilter_wire::control::{Drop, Flow, FlowState, Opened};
use tokio::sync::broadcast;

/// Refused packets that are remembered for who asks later.
const RECENT: usize = 1024;

/// How far a follower may fall behind before it misses some.
const BEHIND: usize = 8192;

/// Where followers subscribe.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Refused packets.
    pub drops: broadcast::Sender<Drop>,
    /// Opened connections.
    pub opened: broadcast::Sender<Opened>,
}

impl Channels {
    /// Without followers.
    pub fn new() -> Self {
        Self { drops: broadcast::channel(BEHIND).0, opened: broadcast::channel(BEHIND).0 }
    }
}

/// Tells followers, and remembers.
#[derive(Debug)]
pub struct Observer {
    node: String,
    channels: Channels,
    recent: VecDeque<Drop>,
    /// Whether the data plane reports opened connections; unknown after a restart.
    reporting: Option<bool>,
}

impl Observer {
    /// For the node of this name.
    pub fn new(node: String, channels: Channels) -> Self {
        Self { node, channels, recent: VecDeque::new(), reporting: None }
    }

    /// Opened connections are reported only while somebody follows them: it costs each of them an event.
    pub fn attend(&mut self, datapath: &mut Datapath) -> Result<(), kilter_datapath::Error> {
        let wanted = self.channels.opened.receiver_count() > 0;
        if self.reporting != Some(wanted) {
            datapath.report_flows(wanted)?;
            self.reporting = Some(wanted);
        }
        Ok(())
    }

    /// Passes events on. A rule must be put into words now: its number may stand for another later.
    /// Of a flood only the newest are worth words when nobody follows.
    pub fn tell(&mut self, events: &[Event], rule_text: impl Fn(RuleId) -> Option<String>) {
        let followed = self.channels.drops.receiver_count() > 0;
        let skipped = if followed { 0 } else { events.len().saturating_sub(RECENT) };
        for event in &events[skipped..] {
            if let Some(drop) = dropped(&self.node, event, &rule_text) {
                if self.recent.len() == RECENT {
                    self.recent.pop_front();
                }
                self.recent.push_back(drop.clone());
                // An error says that nobody follows.
                let _ = self.channels.drops.send(drop);
            } else if let Some(opened) = opened(&self.node, event, &rule_text) {
                let _ = self.channels.opened.send(opened);
            }
        }
    }

    /// The refused packets that are remembered, oldest first.
    pub fn recent(&self) -> Vec<Drop> {
        self.recent.iter().cloned().collect()
    }

    /// The connections that the data plane tracks.
    pub fn flows(
        &self,
        datapath: &Datapath,
        rule_text: impl Fn(RuleId) -> Option<String>,
    ) -> Result<Vec<Flow>, kilter_datapath::Error> {
        Ok(datapath.read_flows()?.iter().map(|flow| tracked(&self.node, flow, &rule_text)).collect())
    }
}

fn dropped(node: &str, event: &Event, rule_text: impl Fn(RuleId) -> Option<String>) -> Option<Drop> {
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

fn opened(node: &str, event: &Event, rule_text: impl Fn(RuleId) -> Option<String>) -> Option<Opened> {
    if let Event::Retried { at, from, to, next, .. } = event {
        return Some(Opened {
            node: node.to_owned(),
            at: micros(*at),
            direction: Direction::Egress.to_string(),
            from: pair(*from),
            to: pair(*next),
            protocol: protocol_name(6),
            rule: None,
            refused_by: Some(pair(*to)),
        });
    }
    let Event::Open { at, direction, from, to, protocol, rule, .. } = event else { return None };
    Some(Opened {
        node: node.to_owned(),
        at: micros(*at),
        direction: direction.to_string(),
        from: pair(*from),
        to: pair(*to),
        protocol: protocol_name(*protocol),
        rule: rule.and_then(rule_text),
        refused_by: None,
    })
}

fn tracked(node: &str, flow: &kilter_datapath::Flow, rule_text: impl Fn(RuleId) -> Option<String>) -> Flow {
    let state = match (flow.revoked, flow.replied) {
        (true, _) => FlowState::Revoked,
        (false, true) => FlowState::Established,
        (false, false) => FlowState::Opening,
    };
    Flow {
        node: node.to_owned(),
        from: pair(flow.from),
        to: pair(flow.to),
        protocol: protocol_name(flow.protocol),
        state,
        egress: flow.egress_rule.and_then(&rule_text),
        ingress: flow.ingress_rule.and_then(&rule_text),
    }
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
        let drop = dropped("node-1", &event, |rule| Some(format!("rule {rule}"))).unwrap();
        assert_eq!((drop.at, drop.direction.as_str(), drop.protocol.as_str()), (1_500_000, "ingress", "TCP"));
        assert_eq!((drop.reason.as_str(), drop.rule.as_deref()), ("policy", Some("rule 7")));
    }
    #[test]
    fn recent_drops_are_bounded_and_the_newest_stay() {
        let at_port = |port: u16| Event::Drop {
            at: UNIX_EPOCH,
            direction: Direction::Egress,
            from: "10.244.1.2:40000".parse().unwrap(),
            to: SocketAddr::new([10, 244, 1, 3].into(), port),
            protocol: 6,
            reason: DropReason::Policy,
            rule: None,
            ifindex: 3,
        };
        let mut observer = Observer::new("node-1".into(), Channels::new());
        let flood: Vec<Event> = (1..=RECENT as u16 + 500).map(at_port).collect();
        observer.tell(&flood[..700], |_| None);
        observer.tell(&flood[700..], |_| None);
        let recent = observer.recent();
        assert_eq!((recent.len(), recent[0].to.1, recent[RECENT - 1].to.1), (RECENT, 501, RECENT as u16 + 500));
    }
}
