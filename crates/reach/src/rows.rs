//! Policy rows as they travel between processes, and back.

use ipnet::IpNet;
use kilter_model::{Direction, PortRange};
use kilter_policy::{
    ClassId, Decision, DecisionSet, Interval, PostureId, ProtocolClass, RuleId, SetId, Tables, Verdict,
};
use kilter_wire::loaded as wire;

/// The rows, without what their rules stand for.
pub fn to_wire(tables: &Tables) -> wire::Policy {
    wire::Policy {
        classes: tables.classes.iter().map(|(net, class)| (net.addr(), net.prefix_len(), class.0)).collect(),
        postures: tables.postures.iter().map(|(address, posture)| (*address, posture.0)).collect(),
        intervals: tables.intervals.iter().map(|(interval, set)| interval_to_wire(interval, *set)).collect(),
        sets: tables.sets.iter().map(|(id, set)| set_to_wire(*id, set)).collect(),
    }
}

/// The rows; `None` where they name a prefix that cannot be.
pub fn from_wire(rows: &wire::Policy) -> Option<Tables> {
    let mut tables = Tables::default();
    for (address, length, class) in &rows.classes {
        tables.classes.insert(IpNet::new(*address, *length).ok()?, ClassId(*class));
    }
    tables.postures = rows.postures.iter().map(|(address, posture)| (*address, PostureId(*posture))).collect();
    tables.intervals = rows.intervals.iter().map(interval_from_wire).collect();
    tables.sets = rows.sets.iter().map(set_from_wire).collect();
    Some(tables)
}

fn interval_to_wire(interval: &Interval, set: SetId) -> wire::Interval {
    wire::Interval {
        posture: interval.posture.0,
        ingress: interval.direction == Direction::Ingress,
        protocol: interval.protocol.number(),
        ports: (interval.ports.first, interval.ports.last),
        set: set.0,
    }
}

fn interval_from_wire(row: &wire::Interval) -> (Interval, SetId) {
    let interval = Interval {
        posture: PostureId(row.posture),
        direction: if row.ingress { Direction::Ingress } else { Direction::Egress },
        protocol: ProtocolClass::of(row.protocol),
        ports: PortRange { first: row.ports.0, last: row.ports.1 },
    };
    (interval, SetId(row.set))
}

fn set_to_wire(id: SetId, set: &DecisionSet) -> wire::Set {
    let exceptions = set.exceptions.iter().map(|(class, decision)| (class.0, decision_to_wire(*decision)));
    wire::Set { id: id.0, default: decision_to_wire(set.default), exceptions: exceptions.collect() }
}

fn set_from_wire(row: &wire::Set) -> (SetId, DecisionSet) {
    let exceptions = row.exceptions.iter().map(|(class, it)| (ClassId(*class), decision_from_wire(*it)));
    (
        SetId(row.id),
        DecisionSet { default: decision_from_wire(row.default), exceptions: exceptions.collect() },
    )
}

fn decision_to_wire(decision: Decision) -> wire::Decision {
    wire::Decision { allow: decision.verdict.is_allow(), rule: decision.rule.0 }
}

fn decision_from_wire(row: wire::Decision) -> Decision {
    Decision { verdict: if row.allow { Verdict::Allow } else { Verdict::Deny }, rule: RuleId(row.rule) }
}
