//! What a run came to.

use std::fmt;
use std::time::Duration;

use kilter_policy::Verdict;
use kilter_wire::control::ProbeResult;
use serde::Serialize;

use crate::judge::{Finding, Judged};
use crate::plan::{Target, Trial};

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The twin.
    pub twin: String,
    /// Trials made.
    pub trials: usize,
    /// Trials answered by the right pod, as the model says.
    pub answered: usize,
    /// Trials refused by the side that the model names.
    pub refused: usize,
    /// Trials in which packets and model disagree.
    pub disagreements: usize,
    /// How long it took, milliseconds.
    pub millis: u128,
    /// Every trial.
    pub judged: Vec<Judged>,
}

impl Report {
    /// Counts what was judged.
    pub fn new(twin: &str, mut judged: Vec<Judged>, took: Duration) -> Self {
        judged.sort_by(|a, b| key(&a.trial).cmp(&key(&b.trial)));
        let agreed = |j: &&Judged| j.finding.is_none();
        let answered = |j: &Judged| matches!(j.outcome.result, ProbeResult::Answered { .. });
        Self {
            twin: twin.to_owned(),
            trials: judged.len(),
            answered: judged.iter().filter(agreed).filter(|j| answered(j)).count(),
            refused: judged.iter().filter(agreed).filter(|j| !answered(j)).count(),
            disagreements: judged.iter().filter(|j| j.finding.is_some()).count(),
            millis: took.as_millis(),
            judged,
        }
    }

    /// Every trial as a line.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.judged.iter().map(line)
    }
}

fn key(trial: &Trial) -> (String, String, u16, String) {
    (trial.from_name.to_string(), target(trial), trial.to.port(), trial.protocol.to_string())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for judged in self.judged.iter().filter(|j| j.finding.is_some()) {
            writeln!(f, "{}", line(judged))?;
        }
        let Self { twin, trials, answered, refused, disagreements, millis, .. } = self;
        write!(
            f,
            "{twin}: {trials} connections tried; {answered} answered by the right pod, {refused} refused where the \
             model says; {disagreements} disagreement{} ({:.1} s)",
            if *disagreements == 1 { "" } else { "s" },
            *millis as f64 / 1000.0
        )
    }
}

fn target(trial: &Trial) -> String {
    match &trial.target {
        Target::Pod(name) => name.to_string(),
        Target::Service(name) => format!("svc/{name}"),
        Target::NodePort { service, node } => format!("svc/{service} at {node}"),
        Target::LoadBalancer(name) => format!("svc/{name} at its load balancer"),
        Target::HostPort { pod, node } => format!("{pod} at {node}"),
        Target::Internet => "internet".to_owned(),
    }
}

fn line(judged: &Judged) -> String {
    let trial = &judged.trial;
    let what = format!("{} -> {}:{}/{}", trial.from_name, target(trial), trial.to.port(), trial.protocol);
    match &judged.finding {
        None => format!("ok    {what}: {}", explain(judged)),
        Some(finding) => format!("WRONG {what}: {}; {}", describe(finding), explain(judged)),
    }
}

fn explain(judged: &Judged) -> String {
    if let Some(drop) = &judged.drop {
        let rule = drop.rule.as_deref().map(|r| format!(", {r}")).unwrap_or_default();
        return format!("refused at {} ({}: {}{rule})", drop.node, drop.direction, drop.reason);
    }
    match judged.trial.expected.as_slice() {
        [] => "no ready endpoint".into(),
        [one] => match one.answer.egress.verdict {
            Verdict::Deny => format!("the model: {}", one.answer.egress.reason),
            Verdict::Allow => format!("the model: {}", one.answer.ingress.reason),
        },
        many => format!("{} endpoints", many.len()),
    }
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::AllowedButNotAnswered => "allowed, and nobody answered".into(),
        Finding::AnsweredByAnother { pod: Some(pod) } => format!("answered by another pod ({pod})"),
        Finding::AnsweredByAnother { pod: None } => "answered by something that is not a stand-in".into(),
        Finding::RefusedButAnswered => "to be refused, and it was answered".into(),
        Finding::SilenceWithoutDrop => "nobody answered, and nothing says why".into(),
        Finding::RefusedElsewhere { by } => format!("refused by the {by} side instead"),
        Finding::NotRefused => "a Service without endpoints must refuse at once".into(),
        Finding::NotTried { why } => format!("could not be tried: {why}"),
    }
}
