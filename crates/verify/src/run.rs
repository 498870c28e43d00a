//! The run itself: wait until the nodes have caught up with the API, try everything at once, judge.

use std::time::Instant;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kilter_twin::TwinSpec;

use crate::judge::Judged;
use crate::plan::{Trial, plan_sample};
use crate::report::Report;
use crate::session::{Options, Session};

/// Tries every pair and Service of a twin and compares with the model of a fresh list of its API.
///
/// Disagreements are tried once more against another fresh list: between list and packet the
/// cluster may have changed under the run, and what persists is what counts.
pub fn verify<'a>(spec: &'a TwinSpec, options: &'a Options) -> LocalBoxFuture<'a, Result<Report>> {
    Box::pin(run(spec, options))
}

async fn run(spec: &TwinSpec, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let mut session = Session::open(spec, options).await?;
    let trials = plan_sample(&session.settled().await?, session.routing(), options.sample);
    let mut judged = session.attempt(trials).await?;
    if judged.iter().any(|j| j.finding.is_some()) {
        judged = again(&mut session, judged, options.sample).await?;
    }
    Ok(Report::new(&spec.name, judged, started.elapsed()))
}

async fn again(session: &mut Session, judged: Vec<Judged>, sample: Option<usize>) -> Result<Vec<Judged>> {
    let (mut settled, doubtful): (Vec<_>, Vec<_>) = judged.into_iter().partition(|j| j.finding.is_none());
    let same = |a: &Trial, b: &Trial| (&a.from, a.to, a.protocol) == (&b.from, b.to, b.protocol);
    let trials = plan_sample(&session.settled().await?, session.routing(), sample);
    let trials = trials.into_iter().filter(|t| doubtful.iter().any(|d| same(&d.trial, t))).collect();
    settled.extend(session.attempt(trials).await?);
    Ok(settled)
}
