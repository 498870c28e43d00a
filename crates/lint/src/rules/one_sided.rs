//! KLT003: one side names a connection, the other refuses it.

use std::collections::BTreeSet;

use kilter_model::{Cluster, Direction, Peer, Pod, PolicyRef, PolicyRule, Protocol, Tier};
use kilter_policy::naive::{Party, Query, Side, evaluate};
use kilter_policy::{Reason, Verdict};
use kilter_reach::{Connection, End};

use crate::context::Context;
use crate::finding::ONE_SIDED_ALLOW;
use crate::{Finding, Fix};

pub fn check(context: &Context<'_>, explained: &[Connection]) -> Vec<Finding> {
    let cluster = &context.cluster;
    let pods: Vec<&Pod> = cluster.pods().filter(|it| !it.host_network && it.owns_addresses()).collect();
    let mut found = vec![];
    for from in &pods {
        for to in pods.iter().filter(|it| it.owner != from.owner) {
            let ports: BTreeSet<_> = to.ports.iter().map(|it| (it.protocol, it.port)).collect();
            for (protocol, port) in ports {
                let pair = Pair { cluster, from, to, protocol, port };
                if !is_listed(explained, &pair) && !is_listed(context.connections(), &pair) {
                    found.extend(pair.finding());
                }
            }
        }
    }
    found
}

/// Whether a connection is permitted, or may be, according to a list.
fn is_listed(connections: &[Connection], pair: &Pair<'_>) -> bool {
    connections.iter().any(|it| {
        matches!((&it.from, &it.to), (End::Workload(a), End::Workload(b))
            if *a == pair.from.owner && *b == pair.to.owner)
            && (it.ports.contains(pair.protocol, pair.port)
                || it.depends_on_address.contains(pair.protocol, pair.port))
    })
}

struct Pair<'a> {
    cluster: &'a Cluster,
    from: &'a Pod,
    to: &'a Pod,
    protocol: Protocol,
    port: u16,
}

impl Pair<'_> {
    fn finding(&self) -> Option<Finding> {
        let query = Query {
            from: Party::Pod(self.from.uid.clone()),
            to: Party::Pod(self.to.uid.clone()),
            protocol: self.protocol.into(),
            port: self.port,
        };
        let answer = evaluate(self.cluster, &query);
        let sides = [
            (Direction::Ingress, &answer.egress, &answer.ingress, self.to),
            (Direction::Egress, &answer.ingress, &answer.egress, self.from),
        ];
        let (refusing, named, refused, other) =
            sides.into_iter().find(|(_, one, other, _)| self.is_one_sided(one, other))?;
        let (policy, rule, origin) = allowed(named)?;
        let message = format!(
            "{policy} rule {rule} allows {} => {} {} {}, but {} {}",
            self.from.owner,
            self.to.owner,
            self.protocol,
            self.port,
            other.owner,
            why(refused, refusing)
        );
        let mut finding = Finding::new(&ONE_SIDED_ALLOW, origin, &policy.to_string(), message);
        finding.breaks =
            vec![format!("{} => {} : {} {}", self.from.owner, self.to.owner, self.protocol, self.port)];
        finding.fix = Some(Fix::allow(refusing, self.from, self.to, self.protocol, self.port));
        Some(finding)
    }

    /// Only a rule that means this very peer shows that the connection is wanted.
    fn is_one_sided(&self, named: &Side, refused: &Side) -> bool {
        refused.verdict == Verdict::Deny
            && matches!(refused.reason, Reason::Isolated { .. })
            && self.names_peer(named)
    }

    fn names_peer(&self, side: &Side) -> bool {
        let Reason::Allowed { policy, direction, rule, .. } = &side.reason else { return false };
        let peer = match direction {
            Direction::Ingress => self.from,
            Direction::Egress => self.to,
        };
        let rule = self.rule(policy, *direction, *rule as usize - 1);
        let Some(peers) = rule.and_then(|it| it.peers.as_ref()) else { return false };
        peers
            .iter()
            .any(|it| matches!(it, Peer::Pods { pods, .. } if !pods.is_empty() && pods.matches(&peer.labels)))
    }

    fn rule(&self, policy: &PolicyRef, direction: Direction, index: usize) -> Option<&PolicyRule> {
        match policy.tier {
            Tier::NetworkPolicy => self.cluster.policy(&policy.name)?.rules(direction)?.get(index),
            Tier::Admin | Tier::Baseline => {
                let policy = self.cluster.cluster_policy(&policy.name.name)?;
                policy.rules(direction).get(index).map(|it| &it.matches)
            }
        }
    }
}

fn allowed(side: &Side) -> Option<(&PolicyRef, u32, kilter_model::Origin)> {
    match &side.reason {
        Reason::Allowed { policy, rule, origin, .. } => Some((policy, *rule, origin.clone())),
        _ => None,
    }
}

fn why(side: &Side, direction: Direction) -> String {
    let Reason::Isolated { policies, .. } = &side.reason else { return side.reason.to_string() };
    let names: Vec<String> = policies.iter().map(|it| it.name.name.to_string()).collect();
    format!("is isolated for {direction} by {}, and no rule of theirs allows it", names.join(", "))
}
