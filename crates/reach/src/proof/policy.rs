//! Policy rows, for every packet, and cached verdicts judged anew.

use kilter_model::{Direction, PortRange};
use kilter_policy::{ProtocolClass, RuleId};
use kilter_wire::loaded::Flow;

use super::{Finding, Packet, Proof, Subject, Verdict, View};
use crate::equality::{Difference, Said, compare};
use crate::interpreter::{Missing, Probe, decide};
use crate::rows;

pub(super) fn rows(view: &View<'_>, proof: &mut Proof) {
    let Some(loaded) = rows::from_wire(&view.loaded.policy) else {
        let what = "a loaded class row has a prefix length that no address has".to_owned();
        proof.findings.push(Finding { subject: Subject::Policy, what, packet: None });
        return;
    };
    let comparison = compare(view.wanted, &loaded);
    let rows = loaded.classes.len() + loaded.postures.len() + loaded.intervals.len();
    let decisions: usize = loaded.sets.values().map(|set| 1 + set.exceptions.len()).sum();
    proof.compared.extend([
        ("policy rows", (rows + decisions) as u64),
        ("postures", comparison.postures as u64),
        ("classes of peers", comparison.classes as u64),
        ("ranges of ports", comparison.ranges as u64),
    ]);
    proof.findings.extend(comparison.differences.iter().map(|difference| describe(view, difference)));
}

fn describe(view: &View<'_>, difference: &Difference) -> Finding {
    let Difference { probe, ports, pods, wanted, loaded } = difference;
    let others = match pods.len() {
        1 => String::new(),
        more => format!(" and {} more", more - 1),
    };
    let wrong = match (difference.is_of_verdict(), wanted.is_ok_and(|it| it.verdict.is_allow())) {
        (true, true) => "refuses what the model allows",
        (true, false) => "allows what the model refuses",
        (false, _) => "decides as the model does, but not by the same rule",
    };
    let what = format!("{} of pod {}{others} {wrong}", probe.direction, view.name(probe.pod));
    let (from, to) = ends(probe);
    let packet = Packet {
        from,
        to,
        protocol: probe.protocol.to_string(),
        port: probe.port,
        ports: ports_text(*ports),
        direction: probe.direction.to_string(),
        expected: verdict(*wanted, |rule| view.wanted.rules.get(&rule).map(ToString::to_string)),
        loaded: verdict(*loaded, |rule| view.loaded.rules.get(&rule.0).cloned()),
    };
    Finding { subject: Subject::Policy, what, packet: Some(packet) }
}

fn ends(probe: &Probe) -> (std::net::IpAddr, std::net::IpAddr) {
    match probe.direction {
        Direction::Egress => (probe.pod, probe.peer),
        Direction::Ingress => (probe.peer, probe.pod),
    }
}

fn ports_text(ports: PortRange) -> String {
    if ports == PortRange::ALL { "all ports".into() } else { ports.to_string() }
}

fn verdict(said: Said, text: impl Fn(RuleId) -> Option<String>) -> Verdict {
    match said {
        Ok(decision) => Verdict {
            allowed: decision.verdict.is_allow(),
            by: text(decision.rule).unwrap_or_else(|| format!("rule {}, which the agent does not know", decision.rule)),
        },
        Err(missing) => Verdict { allowed: false, by: missing_text(missing).into() },
    }
}

fn missing_text(missing: Missing) -> &'static str {
    match missing {
        Missing::Posture => "no posture row for the pod",
        Missing::Class => "no class row for the peer",
        Missing::Interval => "no interval row for the port",
        Missing::Set => "no set row for the interval",
    }
}

/// A cached verdict that is still trusted must be the one that the model gives now. One that is
/// not current is asked again by its next packet, so it cannot be wrong.
pub(super) fn flows(view: &View<'_>, proof: &mut Proof) {
    proof.compared.insert("cached flows", view.loaded.flows.len() as u64);
    for flow in view.loaded.flows.iter().filter(|flow| flow.current) {
        let refusal = refusal(view, flow);
        let what = match (&refusal, flow.allowed) {
            (Some((direction, why)), true) => format!("passes by its cached verdict, but {direction} refuses it: {why}"),
            (None, false) => "is refused by its cached verdict, but the model allows it".into(),
            _ => continue,
        };
        let protocol = ProtocolClass::of(flow.protocol);
        let what = format!("{} -> {} over {protocol} {what}", flow.from, flow.to);
        proof.findings.push(Finding { subject: Subject::Flow, what, packet: None });
    }
}

/// Which side refuses a flow now, of those that this node judges, and why.
fn refusal(view: &View<'_>, flow: &Flow) -> Option<(Direction, String)> {
    let protocol = ProtocolClass::of(flow.protocol);
    let port = if protocol == ProtocolClass::Other { 0 } else { flow.to.port() };
    let (from, to) = (flow.from.ip(), flow.to.ip());
    let sides = [(flow.egress, Direction::Egress, from, to), (flow.ingress, Direction::Ingress, to, from)];
    sides.into_iter().filter(|(judged, ..)| *judged).find_map(|(_, direction, pod, peer)| {
        let said = decide(view.wanted, &Probe { pod, peer, direction, protocol, port });
        let verdict = verdict(said, |rule| view.wanted.rules.get(&rule).map(ToString::to_string));
        (!verdict.allowed).then_some((direction, verdict.by))
    })
}
