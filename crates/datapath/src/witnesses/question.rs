//! What is asked, and what the two witnesses without a kernel say.

use std::net::IpAddr;

use kilter_model::{Cluster, Direction};
use kilter_policy::naive::{Party, Query, Side, evaluate_within, holder};
use kilter_policy::{Decision, ProtocolClass, RuleId, Tables, Verdict};
use kilter_reach::interpreter::{Missing, Probe, decide};
use kilter_testkit::random::{self, NODES};
use proptest::prelude::*;
use proptest::sample::select;

/// The first packet of a connection, as it may meet one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: ProtocolClass,
    /// The destination port; 0 where there is none.
    pub(super) port: u16,
    pub(super) shape: Shape,
    pub(super) way: Way,
}

/// What the packet looks like. The verdict never depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A SYN, a datagram, an echo request.
    Plain,
    /// TCP whose entry is lost; otherwise as `Plain`.
    MidStream,
    /// UDP that is the first of several fragments; otherwise as `Plain`.
    FirstFragment,
    /// With as many IP options, or extension headers, as there may be.
    Options,
}

/// How a packet for a pod that is not a pod's own arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the other nodes.
    Uplink,
    /// Forwarded by the stack, from some other link.
    Stack,
}

/// The sides that a node judges, in order, up to the first that refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word<R> {
    /// The rule of each side that was judged here.
    Allowed { egress: Option<R>, ingress: Option<R> },
    /// Which side refuses, by which rule.
    Refused(Direction, R),
    /// A row is missing, which refuses too.
    NotLoaded,
}

impl<R> Word<R> {
    pub(super) fn is_allowed(&self) -> bool {
        matches!(self, Word::Allowed { .. })
    }

    /// The same without the rules: what witnesses that number rules differently can agree on.
    pub(super) fn bare(self) -> Word<()> {
        match self {
            Word::Allowed { egress, ingress } => {
                Word::Allowed { egress: egress.map(drop), ingress: ingress.map(drop) }
            }
            Word::Refused(direction, _) => Word::Refused(direction, ()),
            Word::NotLoaded => Word::NotLoaded,
        }
    }
}

/// Where the asked node's pods may be, and its own address.
pub(super) struct Place {
    pub(super) pods: Vec<IpAddr>,
    pub(super) node: IpAddr,
}

impl Place {
    /// Questions in which at least one end is an address of a pod of this node.
    pub(super) fn question(&self) -> impl Strategy<Value = Question> + use<> {
        let pair = select(self.pairs());
        let shape = prop_oneof![
            5 => Just(Shape::Plain), 1 => Just(Shape::MidStream), 1 => Just(Shape::FirstFragment), 1 => Just(Shape::Options),
        ];
        let way = prop_oneof![3 => Just(Way::Uplink), 1 => Just(Way::Stack)];
        (pair, select(&ProtocolClass::ALL), select(&random::PORTS), shape, way).prop_map(
            |((from, to), protocol, port, shape, way)| {
                let port = if protocol == ProtocolClass::Other { 0 } else { port };
                Question { from, to, protocol, port, shape, way }
            },
        )
    }

    /// Who may send to whom without being refused before policy is asked.
    fn pairs(&self) -> Vec<(IpAddr, IpAddr)> {
        let known = |it: &IpAddr| *it == self.node || self.pods.contains(it) || !self.is_own(*it);
        let peers: Vec<IpAddr> = random::addresses().into_iter().filter(known).collect();
        let mut pairs = Vec::new();
        for pod in &self.pods {
            let others = peers.iter().filter(|peer| *peer != pod && peer.is_ipv4() == pod.is_ipv4());
            pairs.extend(others.flat_map(|peer| [(*pod, *peer), (*peer, *pod)]));
        }
        pairs
    }

    /// Whether an address lies in the block of these pods.
    fn is_own(&self, address: IpAddr) -> bool {
        self.pods.iter().any(|pod| match (pod, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
            (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
            _ => false,
        })
    }

    /// Asks both sides that this node judges. A side answers allowed, refused, or that a row is
    /// missing.
    fn ask<R: Copy>(
        &self,
        question: &Question,
        side: impl Fn(Direction) -> Option<(Verdict, R)>,
    ) -> Word<R> {
        let judged = |direction| match direction {
            Direction::Egress => self.pods.contains(&question.from),
            // A pod's own node may always reach it.
            Direction::Ingress => self.pods.contains(&question.to) && question.from != self.node,
        };
        let mut rules = [None, None];
        for (rule, direction) in rules.iter_mut().zip([Direction::Egress, Direction::Ingress]) {
            if !judged(direction) {
                continue;
            }
            match side(direction) {
                None => return Word::NotLoaded,
                Some((Verdict::Deny, rule)) => return Word::Refused(direction, rule),
                Some((Verdict::Allow, allowed)) => *rule = Some(allowed),
            }
        }
        Word::Allowed { egress: rules[0], ingress: rules[1] }
    }

    /// Whether the cluster gives an address of the asked node to it that the loaded programs do not
    /// take for their own: a random cluster moves nodes' addresses, a node that runs keeps its own.
    pub(super) fn is_misplaced(&self, cluster: &Cluster, question: &Question) -> bool {
        let own = cluster.node(NODES[0]).map_or(&[][..], |node| &node.addresses);
        [question.from, question.to].iter().any(|it| *it != self.node && own.contains(it))
    }

    /// The first witness: the rules, asked directly.
    pub(super) fn rules_say(&self, cluster: &Cluster, question: &Question) -> Word<()> {
        let answer = evaluate_within(
            cluster,
            &super::pod_cidrs(),
            &Query {
                from: Party::Address(question.from),
                to: Party::Address(question.to),
                protocol: question.protocol,
                port: question.port,
            },
        );
        self.ask(question, |direction| {
            let (pod, side): (_, &Side) = match direction {
                Direction::Egress => (question.from, &answer.egress),
                Direction::Ingress => (question.to, &answer.ingress),
            };
            let here = holder(cluster, pod).is_some_and(|it| it.node.as_deref() == Some(NODES[0]));
            // An address that no pod of this node holds has no posture, and so nothing is allowed.
            here.then_some((side.verdict, ()))
        })
    }

    /// The second witness: the rows, looked up as the program does.
    pub(super) fn tables_say(&self, tables: &Tables, question: &Question) -> Word<RuleId> {
        self.ask(question, |direction| {
            let (pod, peer) = match direction {
                Direction::Egress => (question.from, question.to),
                Direction::Ingress => (question.to, question.from),
            };
            let Question { protocol, port, .. } = *question;
            let decided: Result<Decision, Missing> =
                decide(tables, &Probe { pod, peer, direction, protocol, port });
            decided.ok().map(|decision| (decision.verdict, decision.rule))
        })
    }
}

/// Whether both ends are addresses of one pod: such a packet never leaves the pod's `lo`.
pub(super) fn is_within_one_pod(cluster: &Cluster, question: &Question) -> bool {
    let pod = |address| holder(cluster, address).map(|pod| &pod.uid);
    pod(question.from).is_some() && pod(question.from) == pod(question.to)
}
