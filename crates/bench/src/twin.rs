//! How long a twin takes to be ready and to go away, and what it keeps in memory meanwhile.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::crowd;
use crate::figure::{Figure, Report};
use crate::memory::megabytes;
use crate::running::RunningTwin;
use crate::statistics::Summary;

/// What to measure.
pub struct Options {
    /// The `kilter` program; a command of its own asks for this benchmark, so usually the current one.
    pub program: PathBuf,
    /// What to bring up, each as after `-f`.
    pub sources: Vec<String>,
    /// Or else so many pods.
    pub pods: Option<u32>,
    /// How many nodes.
    pub nodes: u32,
    /// How often.
    pub runs: usize,
}

/// One life of a twin.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// Seconds from the start of `up` to its end, when every pod is ready.
    ready: f64,
    /// Seconds from the start of `verify` of a sample to its end; it found nothing.
    verified: f64,
    /// Seconds from the start of `down` to its end.
    down: f64,
    /// Of all its processes together.
    memory: Memory,
}

/// Megabytes (10^6 bytes).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Memory {
    /// Resident, with shared pages counted in each process that has them.
    rss: f64,
    /// Resident, with each shared page divided among those that have it.
    pss: f64,
    /// The largest process's share.
    largest: f64,
    /// Of the nodes' own processes and their pods'.
    nodes: f64,
}

/// How many pods of many `verify` tries with each other, and how many Services.
const SAMPLE: u32 = 50;
/// What others have published of their own, on other machines: an orientation, no comparison.
const PUBLISHED: &str = "published by others, on other machines: kind is ready after 33 s with one node \
    (minikube's time-to-k8s, May 2025); KWOK's tests want 10,000 pods within 60 s, which have no network";

/// Brings a twin up and takes it down, several times.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut lives = Vec::with_capacity(options.runs);
    for run in 1..=options.runs {
        progress(&format!("bring a twin up and take it down: run {run} of {}", options.runs));
        lives.push(live(options, run)?);
    }
    let always: [(&str, &'static str, fn(&Life) -> f64); 5] = [
        ("ready", "s", |life| life.ready),
        ("down", "s", |life| life.down),
        ("memory-pss", "MB", |life| life.memory.pss),
        ("memory-rss", "MB", |life| life.memory.rss),
        ("memory-largest-process", "MB", |life| life.memory.largest),
    ];
    let values = |value: fn(&Life) -> f64| lives.iter().map(value).collect::<Vec<f64>>();
    let mut measured: Vec<_> = always.map(|(case, unit, value)| (case, unit, values(value))).into();
    if let Some(pods) = options.pods {
        let nodes = values(|life| life.memory.nodes);
        let per_node = nodes.iter().map(|total| total / f64::from(options.nodes)).collect();
        let per_pod = nodes.iter().map(|total| total * 1e3 / f64::from(pods)).collect();
        measured.push(("verified-by-sample", "s", values(|life| life.verified)));
        measured.push(("memory-per-node", "MB", per_node));
        measured.push(("memory-per-pod", "kB", per_pod));
    }
    let figures = measured.into_iter().filter_map(|(case, unit, values)| {
        let summary = Summary::of_single_values(values, false)?;
        Some(figure(case, unit, summary, lives.len()))
    });
    let what = match options.pods {
        Some(pods) => format!("{pods} pods"),
        None => options.sources.join(" "),
    };
    let mut notes = vec![format!(
        "{what} on {} nodes; ready: from `kilter up` to every pod ready; memory: all processes of the twin, once ready",
        options.nodes
    )];
    if options.pods.is_some() {
        notes.push(PUBLISHED.into());
    }
    Ok(Report { figures: figures.collect(), notes })
}

fn figure(case: &str, unit: &'static str, summary: Summary, runs: usize) -> Figure {
    Figure {
        bench: "twin",
        case: case.into(),
        subject: "kilter".into(),
        unit,
        p50: summary.p50,
        p99: summary.p99,
        low: summary.low,
        high: summary.high,
        runs,
    }
}

fn live(options: &Options, run: usize) -> Result<Life> {
    let directory = tempfile::tempdir().context("make a directory for the twin's manifests")?;
    let mut twin = RunningTwin::new(&options.program, &run.to_string())?;
    let mut sources = options.sources.clone();
    if let Some(pods) = options.pods {
        let file = directory.path().join("pods.yaml");
        fs::write(&file, crowd::manifests(pods)).with_context(|| format!("write {}", file.display()))?;
        sources.push(file.display().to_string());
        twin = twin.with(&["--timeout", &crowd::PATIENCE.to_string()]);
    }
    let start = Instant::now();
    twin.up(options.nodes, &sources)?;
    let ready = start.elapsed().as_secs_f64();
    let memory = memory(twin.name())?;
    let start = Instant::now();
    if options.pods.is_some() {
        twin.verify(SAMPLE)?;
    }
    let verified = start.elapsed().as_secs_f64();
    let start = Instant::now();
    twin.down()?;
    Ok(Life { ready, verified, down: start.elapsed().as_secs_f64(), memory })
}

/// Of all processes in the twin's cgroups.
fn memory(twin: &str) -> Result<Memory> {
    let group = format!("0::/kilter/{twin}/");
    let mut total = Memory::default();
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let of = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        // A process that has ended meanwhile, and a kernel thread, have no memory to count.
        let cgroup = of("cgroup");
        if let Some(inside) = cgroup.lines().find_map(|line| line.strip_prefix(&group)) {
            let usage = of("smaps_rollup");
            let pss = megabytes(&usage, "Pss:");
            total.rss += megabytes(&usage, "Rss:");
            total.pss += pss;
            if inside.starts_with("node-") {
                total.nodes += pss;
            }
            total.largest = total.largest.max(pss);
        }
    }
    if total.pss == 0.0 {
        bail!("no process of twin {twin} was found in its cgroups");
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_quoted_and_nothing_is_measured() {
        let options =
            Options { program: "/bin/false".into(), sources: vec!["shop".into()], pods: None, nodes: 3, runs: 1 };
        let error = run(&options, &mut |_| {}).unwrap_err().to_string();
        assert!(error.starts_with("`/bin/false up --name bench-"), "{error}");
        assert!(error.contains("--nodes 3 -f shop` ended with exit status: 1"), "{error}");
    }
}
