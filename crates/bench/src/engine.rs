//! Runs of many subjects in turn, so that whatever disturbs the machine disturbs all of them.

use anyhow::{Context, Result, bail};

use crate::figure::Figure;
use crate::statistics::Sample;
use crate::work::{Effort, Target, Work};

/// How many packets the data path of a subject has handled until now.
pub type Witness = Box<dyn Fn() -> Result<u64> + Send + Sync>;

/// Somebody who carries traffic over a path.
pub struct Subject {
    /// `loopback`, `kernel`, `kilter`...
    pub name: String,
    /// The path: `same-node`, `across-nodes`, `service-10000`...
    pub path: String,
    /// The two ends.
    pub target: Target,
    /// Shows that the traffic really takes the subject's path. Without one the path is the only one
    /// there is (a Service address that nothing else answers, a namespace with nothing in it).
    pub witness: Option<Witness>,
}

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Runs of each subject and kind of traffic.
    pub runs: usize,
    /// What one run measures.
    pub effort: Effort,
    /// Kinds of traffic, each over all subjects.
    pub works: Vec<Work>,
}

impl Default for Plan {
    fn default() -> Self {
        let works = vec![Work::TcpKeepAlive, Work::TcpNewConnection, Work::Udp, Work::Bulk];
        Self { runs: 15, effort: Effort::default(), works }
    }
}

/// Exchanges sent while a witness is watched.
const WATCHED: usize = 100;

/// Measures every subject; `progress` is told what comes next. Fails before measuring anything when
/// a subject cannot be reached or is not what carries its traffic.
pub fn measure(
    bench: &'static str,
    subjects: &[Subject],
    plan: &Plan,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    for subject in subjects {
        progress(&format!("check {} {}", subject.name, subject.path));
        check(subject).with_context(|| format!("{} ({})", subject.name, subject.path))?;
    }
    let mut figures = Vec::new();
    for work in &plan.works {
        let mut runs: Vec<Vec<Sample>> = vec![Vec::with_capacity(plan.runs); subjects.len()];
        for run in 1..=plan.runs {
            progress(&format!("{}: run {run} of {}", work.name(), plan.runs));
            for (subject, samples) in subjects.iter().zip(&mut runs) {
                let sample = work.sample(&subject.target, &plan.effort);
                samples.push(
                    sample
                        .with_context(|| format!("{} {} of {}", work.name(), subject.path, subject.name))?,
                );
            }
        }
        figures.extend(
            subjects.iter().zip(&runs).filter_map(|(subject, runs)| figure(bench, *work, subject, runs)),
        );
    }
    Ok(figures)
}

fn figure(bench: &'static str, work: Work, subject: &Subject, runs: &[Sample]) -> Option<Figure> {
    let summary = work.summary(runs)?;
    Some(Figure {
        bench,
        case: format!("{} {}", work.name(), subject.path),
        subject: subject.name.clone(),
        unit: work.unit(),
        p50: summary.p50,
        p99: summary.p99,
        low: summary.low,
        high: summary.high,
        runs: runs.len(),
    })
}

/// A refused program leaves traffic on the kernel's own path, and the figure would be the kernel's.
fn check(subject: &Subject) -> Result<()> {
    let count = || subject.witness.as_ref().map(|witness| witness()).transpose().context("read its counters");
    let before = count()?;
    let effort = Effort { exchanges: WATCHED, ..Effort::default() };
    Work::TcpKeepAlive.sample(&subject.target, &effort)?;
    match (before, count()?) {
        (Some(before), Some(after)) if after.saturating_sub(before) < WATCHED as u64 => bail!(
            "not what carries this traffic: {WATCHED} exchanges moved its packet counter by {} only. \
             Nothing was measured",
            after.saturating_sub(before)
        ),
        _ => Ok(()),
    }
}
