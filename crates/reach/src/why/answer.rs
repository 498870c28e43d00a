//! Answers, as people and programs read them.

use std::fmt;

use kilter_model::{Cluster, Pod, PortRange, PortSet, Service, ServicePort, TargetPort};
use kilter_policy::naive::{self, Query, Undefined};
use kilter_policy::{Reason, Verdict};
use serde::Serialize;

use super::Near;
use super::nearest::mismatches;
use crate::connections::port_text;

/// Everything that a question came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// What was judged; what has the same reasons is one case.
    pub cases: Vec<Case>,
    /// Where a Service leads nowhere.
    pub unserved: Vec<Unserved>,
}

/// Connections that are decided alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// Who opens it; several where they are decided alike.
    pub from: Vec<String>,
    /// To whom.
    pub to: Vec<String>,
    /// The Service that led there, and its port.
    pub via: Option<String>,
    /// The destination's ports.
    #[serde(serialize_with = "as_text")]
    pub ports: PortSet,
    /// Allowed only if both sides allow it.
    pub verdict: Verdict,
    /// The source's side.
    pub egress: Side,
    /// The destination's side.
    pub ingress: Side,
    /// Set where the specification does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
    /// What was asked of the rules for it, and for which ports that is the answer.
    #[serde(skip)]
    pub asked: Vec<(Query, PortRange)>,
}

/// One side's verdict and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// What this side says.
    pub verdict: Verdict,
    /// Why, in words.
    pub text: String,
    /// Why.
    pub because: Reason,
    /// The rule that is one thing away from allowing it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Near>,
}

/// A Service that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unserved {
    /// `namespace/name`.
    pub service: String,
    /// Why, and what to do.
    pub why: String,
}

fn as_text<S: serde::Serializer>(ports: &PortSet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&port_text(ports))
}

impl Answer {
    /// Denied where any case is denied or leads nowhere.
    pub fn verdict(&self) -> Verdict {
        let served = if self.unserved.is_empty() { Verdict::Allow } else { Verdict::Deny };
        self.cases.iter().fold(served, |sum, case| sum.and(case.verdict))
    }

    pub(super) fn add(&mut self, case: Case) {
        let alike = |it: &&mut Case| it.decided_alike(&case) && it.from == case.from && it.to == case.to;
        match self.cases.iter_mut().find(alike) {
            Some(found) => {
                found.add_ports(&case.ports);
                found.asked.extend(case.asked);
            }
            None => self.cases.push(case),
        }
    }

    /// Puts cases together that differ in their ends alone, denials first.
    pub(super) fn settle(&mut self) {
        let mut settled: Vec<Case> = Vec::new();
        for case in self.cases.drain(..) {
            let alike = |it: &&mut Case| {
                it.decided_alike(&case)
                    && it.ports == case.ports
                    && (it.from == case.from || it.to == case.to)
            };
            match settled.iter_mut().find(alike) {
                Some(found) => found.add_ends(case),
                None => settled.push(case),
            }
        }
        settled.sort_by_key(|it| it.verdict.is_allow());
        self.cases = settled;
        self.unserved.dedup();
    }
}

impl Case {
    pub(super) fn new(
        from: &str,
        to: &str,
        via: Option<String>,
        asked: (Query, PortRange),
        answer: naive::Answer,
        [egress, ingress]: [Option<Near>; 2],
    ) -> Self {
        Self {
            from: vec![from.to_owned()],
            to: vec![to.to_owned()],
            via,
            ports: PortSet::default(),
            verdict: answer.verdict(),
            undefined: answer.undefined.map(|it| clause(it).to_owned()),
            asked: vec![asked],
            egress: Side::new(answer.egress, egress),
            ingress: Side::new(answer.ingress, ingress),
        }
    }

    fn decided_alike(&self, other: &Case) -> bool {
        let ours = (&self.via, &self.undefined, &self.egress, &self.ingress);
        ours == (&other.via, &other.undefined, &other.egress, &other.ingress)
    }

    fn add_ports(&mut self, ports: &PortSet) {
        for protocol in kilter_model::Protocol::ALL {
            ports.ranges(protocol).iter().for_each(|it| self.ports.insert(protocol, *it));
        }
    }

    fn add_ends(&mut self, other: Case) {
        self.asked.extend(other.asked);
        for (ours, theirs) in [(&mut self.from, other.from), (&mut self.to, other.to)] {
            for title in theirs {
                if !ours.contains(&title) {
                    ours.push(title);
                }
            }
        }
    }
}

impl Side {
    fn new(side: naive::Side, nearest: Option<Near>) -> Self {
        let mut text = side.reason.to_string();
        // The evaluator's own hint is less exact than ours.
        if let (Some(_), Reason::Isolated { nearest: Some(hint), .. }) = (&nearest, &side.reason) {
            text = text.trim_end_matches(&format!("; {hint}")).to_owned();
        }
        Self { verdict: side.verdict, text, because: side.reason, nearest }
    }
}

/// What Kubernetes says, or rather does not.
fn clause(undefined: Undefined) -> &'static str {
    match undefined {
        Undefined::EqualPriority => {
            "which of several ClusterNetworkPolicies of one tier and equal priority is asked first is undefined \
             (ClusterNetworkPolicy definition, `spec.priority`); Kilter asks them by name"
        }
        Undefined::HostNetwork => {
            "policy on hostNetwork pods is undefined (NetworkPolicy documentation, \"NetworkPolicy and \
             hostNetwork pods\"); Kilter treats such a pod as its node"
        }
        Undefined::OwnNode => {
            "whether policy holds between a pod and its own node is contradictory in the NetworkPolicy \
             documentation (\"Traffic to and from the node where a Pod is running is always allowed\"); Kilter \
             enforces egress rules"
        }
        Undefined::OtherProtocol => {
            "NetworkPolicy is defined for TCP, UDP and SCTP only (NetworkPolicy documentation, \"Behavior of \
             network policies for other protocols\"); Kilter lets rules without ports allow others"
        }
    }
}

impl Unserved {
    fn new(service: &Service, why: String) -> Self {
        Self { service: service.name.to_string(), why: format!("{why} ({})", service.origin) }
    }

    pub(super) fn no_port(service: &Service) -> Self {
        let has: Vec<String> =
            service.ports.iter().map(|it| format!("{} {}", it.protocol, it.port)).collect();
        Self::new(service, format!("it has no such port; its ports are {}", has.join(", ")))
    }

    pub(super) fn no_pods(service: &Service, pods: &[Pod], cluster: &Cluster) -> Option<Self> {
        if let Some(name) = &service.external_name {
            return Some(Self::new(service, format!("it is another name for {name}, outside the cluster")));
        }
        let Some(selector) = &service.selector else {
            let why = "it has no selector, so its endpoints are written by somebody else".to_owned();
            return Some(Self::new(service, why));
        };
        if !pods.is_empty() {
            return None;
        }
        let same_namespace = cluster.pods().filter(|it| it.name.namespace == service.name.namespace);
        let slips = same_namespace.filter_map(|pod| match mismatches(selector, pod).as_slice() {
            [one] if one.slip => Some(format!("; perhaps {} is meant, which has {}", one.of, one.has)),
            _ => None,
        });
        let hint = slips.min().unwrap_or_default();
        Some(Self::new(service, format!("its selector {selector} matches no pod{hint}")))
    }

    pub(super) fn no_target(service: &Service, port: &ServicePort, pods: &[Pod]) -> Self {
        let target = match &port.target {
            TargetPort::Number(number) => number.to_string(),
            TargetPort::Name(name) => name.to_string(),
        };
        let owners: std::collections::BTreeSet<String> = pods.iter().map(|it| it.owner.to_string()).collect();
        let owners: Vec<String> = owners.into_iter().collect();
        let why = format!(
            "its port {} leads to {} port {target}, which {} does not declare",
            port.port,
            port.protocol,
            owners.join(", ")
        );
        Self::new(service, why)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unserved.iter().try_for_each(|unserved| write!(f, "{unserved}"))?;
        for (i, case) in self.cases.iter().enumerate() {
            let gap = if i > 0 || !self.unserved.is_empty() { "\n" } else { "" };
            write!(f, "{gap}{case}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "svc/{}: NOBODY ANSWERS: {}", self.service, self.why)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.verdict.is_allow() { "ALLOWED" } else { "DENIED" };
        let (from, to) = (self.from.join(", "), self.to.join(", "));
        writeln!(f, "{from} => {to} : {}: {verdict}", port_text(&self.ports))?;
        if let Some(via) = &self.via {
            writeln!(f, "  through   {via}")?;
        }
        for (name, side) in [("egress ", &self.egress), ("ingress", &self.ingress)] {
            let mark = if side.verdict.is_allow() { "allows" } else { "DENIES" };
            writeln!(f, "  {name}   {mark}: {}", side.text)?;
            if let Some(near) = &side.nearest {
                writeln!(f, "            nearest: {near}")?;
            }
        }
        if let Some(clause) = &self.undefined {
            writeln!(f, "  undefined by the specification: {clause}")?;
        }
        Ok(())
    }
}
