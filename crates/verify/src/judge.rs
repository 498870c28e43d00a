//! What happened against what the model says.

use std::net::SocketAddr;

use kilter_policy::Verdict;
use kilter_policy::naive::Answer;
use kilter_wire::control::{Drop, Outcome, ProbeResult};
use serde::Serialize;

use crate::plan::{Expected, Trial};

/// A trial with what became of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// What was tried.
    pub trial: Trial,
    /// What happened.
    pub outcome: Outcome,
    /// The drop event that explains it, where a packet was refused.
    pub drop: Option<Drop>,
    /// What is wrong; `None` when packets and model agree.
    pub finding: Option<Finding>,
}

/// How packets and model disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "finding")]
pub enum Finding {
    /// The model allows it; nobody answered.
    AllowedButNotAnswered,
    /// The model allows it; a pod that the model does not name answered.
    AnsweredByAnother {
        /// Who answered: its UID, or nothing a stand-in would say.
        pod: Option<String>,
    },
    /// The model refuses it; it was answered.
    RefusedButAnswered,
    /// The model refuses it and nobody answered, but nothing says that it was refused.
    SilenceWithoutDrop,
    /// It was refused, by another side than the model says.
    RefusedElsewhere {
        /// The side that the drop event names.
        by: String,
    },
    /// A Service without endpoints must refuse at once.
    NotRefused,
    /// The trial itself could not be made.
    NotTried {
        /// Why.
        why: String,
    },
}

/// Compares one outcome with the model. `drops` are all drop events of the run.
pub fn judge(trial: Trial, outcome: Outcome, drops: &[Drop]) -> Judged {
    let drop = outcome.local.and_then(|local| find_drop(&trial, local, drops)).cloned();
    let finding = compare(&trial, &outcome, drop.as_ref());
    Judged { trial, outcome, drop, finding }
}

fn compare(trial: &Trial, outcome: &Outcome, drop: Option<&Drop>) -> Option<Finding> {
    match &outcome.result {
        ProbeResult::Failed(why) => Some(Finding::NotTried { why: why.clone() }),
        _ if trial.expected.is_empty() => {
            (outcome.result != ProbeResult::Refused).then_some(Finding::NotRefused)
        }
        ProbeResult::Answered { pod } => answered(trial, pod.as_deref()),
        ProbeResult::Refused | ProbeResult::TimedOut => unanswered(trial, drop),
    }
}

fn answered(trial: &Trial, pod: Option<&str>) -> Option<Finding> {
    // Of several pods that do not say who they are, the one that allows it is meant.
    let nameless = |e: &&Expected| !e.says_who && pod.is_none() && e.answer.verdict() == Verdict::Allow;
    match trial.expected.iter().find(|e| Some(&*e.pod) == pod).or_else(|| trial.expected.iter().find(nameless)) {
        None => Some(Finding::AnsweredByAnother { pod: pod.map(str::to_owned) }),
        Some(expected) if expected.answer.verdict() == Verdict::Deny => Some(Finding::RefusedButAnswered),
        Some(_) => None,
    }
}

fn unanswered(trial: &Trial, drop: Option<&Drop>) -> Option<Finding> {
    let Some(drop) = drop else {
        let refused = trial.expected.iter().all(|e| e.answer.verdict() == Verdict::Deny);
        return Some(if refused { Finding::SilenceWithoutDrop } else { Finding::AllowedButNotAnswered });
    };
    let Some(expected) = trial.expected.iter().find(|e| is_at(e, drop)) else {
        return Some(Finding::AllowedButNotAnswered);
    };
    if expected.answer.verdict() == Verdict::Allow {
        return Some(Finding::AllowedButNotAnswered);
    }
    let sides = refusing_sides(&expected.answer);
    // The sender judges first, and its refusal is the only one that is ever seen.
    (sides.first() != Some(&drop.direction.as_str()))
        .then(|| Finding::RefusedElsewhere { by: drop.direction.clone() })
}

fn refusing_sides(answer: &Answer) -> Vec<&'static str> {
    let sides = [(&answer.egress, "egress"), (&answer.ingress, "ingress")];
    sides.into_iter().filter(|(side, _)| side.verdict == Verdict::Deny).map(|(_, name)| name).collect()
}

fn is_at(expected: &Expected, drop: &Drop) -> bool {
    (expected.at.ip(), expected.at.port()) == drop.to
}

/// The drop that explains why nobody answered.
pub(crate) fn find_drop<'a>(trial: &Trial, local: SocketAddr, drops: &'a [Drop]) -> Option<&'a Drop> {
    drops.iter().find(|drop| {
        // What a node translates has a port of that node's choice.
        let from = |e: &Expected| e.seen_as == Some(drop.from.0) && is_at(e, drop);
        (drop.from == (local.ip(), local.port()) || trial.expected.iter().any(from))
            && drop.protocol == trial.protocol.to_string()
            && (trial.expected.iter().any(|e| is_at(e, drop)) || (trial.to.ip(), trial.to.port()) == drop.to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Target;
    use kilter_model::{Direction, NamespacedName, Protocol};
    use kilter_policy::Reason;
    use kilter_policy::naive::Side;

    fn side(verdict: Verdict, direction: Direction) -> Side {
        let reason = match verdict {
            Verdict::Allow => Reason::NotIsolated { direction },
            Verdict::Deny => Reason::Isolated { direction, policies: vec![], nearest: None },
        };
        Side { verdict, reason }
    }

    fn trial(egress: Verdict, ingress: Verdict) -> Trial {
        let at = "10.244.1.2:80".parse().unwrap();
        let answer = Answer {
            egress: side(egress, Direction::Egress),
            ingress: side(ingress, Direction::Ingress),
            undefined: None,
        };
        Trial {
            from: "a".into(),
            from_name: NamespacedName::new("shop", "a"),
            node: "node-1".into(),
            target: Target::Pod(NamespacedName::new("shop", "b")),
            to: at,
            protocol: Protocol::Tcp,
            expected: vec![Expected { pod: "b".into(), at, answer, says_who: true, seen_as: None }],
        }
    }

    fn outcome(result: ProbeResult) -> Outcome {
        Outcome { local: Some("10.244.0.2:40000".parse().unwrap()), result, micros: 1 }
    }

    fn drop(direction: &str) -> Drop {
        Drop {
            node: "node-2".into(),
            at: 0,
            direction: direction.into(),
            from: ("10.244.0.2".parse().unwrap(), 40000),
            to: ("10.244.1.2".parse().unwrap(), 80),
            protocol: "TCP".into(),
            reason: "policy".into(),
            rule: Some("isolated".into()),
        }
    }

    use ProbeResult::{Answered, Refused, TimedOut};
    use Verdict::{Allow, Deny};

    #[test]
    fn silence_is_not_denial() {
        let judged = judge(trial(Allow, Deny), outcome(TimedOut), &[]);
        assert_eq!(judged.finding, Some(Finding::SilenceWithoutDrop));
        let judged = judge(trial(Allow, Deny), outcome(TimedOut), &[drop("ingress")]);
        assert_eq!(judged.finding, None);
    }

    #[test]
    fn a_refusal_by_the_wrong_side_is_a_finding() {
        let judged = judge(trial(Deny, Deny), outcome(TimedOut), &[drop("ingress")]);
        assert_eq!(judged.finding, Some(Finding::RefusedElsewhere { by: "ingress".into() }));
    }

    #[test]
    fn an_answer_counts_only_from_the_right_pod() {
        let answered = |pod: &str| outcome(Answered { pod: Some(pod.into()) });
        assert_eq!(judge(trial(Allow, Allow), answered("b"), &[]).finding, None);
        assert_eq!(
            judge(trial(Allow, Allow), answered("c"), &[]).finding,
            Some(Finding::AnsweredByAnother { pod: Some("c".into()) })
        );
        assert_eq!(judge(trial(Allow, Deny), answered("b"), &[]).finding, Some(Finding::RefusedButAnswered));
    }

    #[test]
    fn a_pod_that_does_not_say_who_it_is_may_answer_only_where_it_is_allowed_to() {
        let mut dns = trial(Allow, Allow);
        dns.expected[0].says_who = false;
        assert_eq!(judge(dns.clone(), outcome(Answered { pod: None }), &[]).finding, None);
        let mut refused = trial(Allow, Deny);
        refused.expected[0].says_who = false;
        assert!(judge(refused, outcome(Answered { pod: None }), &[]).finding.is_some());
    }

    #[test]
    fn an_allowed_trial_that_nobody_answers_is_a_finding() {
        for result in [Refused, TimedOut] {
            let judged = judge(trial(Allow, Allow), outcome(result), &[]);
            assert_eq!(judged.finding, Some(Finding::AllowedButNotAnswered));
        }
    }

    #[test]
    fn a_service_without_endpoints_must_refuse_at_once() {
        let mut empty = trial(Allow, Allow);
        empty.expected.clear();
        assert_eq!(judge(empty.clone(), outcome(Refused), &[]).finding, None);
        assert_eq!(judge(empty, outcome(TimedOut), &[]).finding, Some(Finding::NotRefused));
    }
}
