//! What policy costs: reading a large cluster, answering for all pairs of pods in it, and keeping
//! one node's rows in step with changes. Nothing here needs root or packets.

mod cluster;
mod growth;
mod kernel;
mod plot;

use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use ipnet::IpNet;
use kilter_model::{Change, Cluster, Event, Origin};
use kilter_policy::{Compiler, Config, Plan};
use kilter_reach::{Options as Assumptions, connections, pairs};
use serde::{Deserializer as _, Serializer as _};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::{Value, json};

use crate::figure::{Figure, Report};
use crate::statistics::{Sample, Summary};
use cluster::{PODS_OF_A_NODE, Size};

/// What to measure.
pub struct Options {
    /// How often.
    pub runs: usize,
    /// Where the picture of how costs grow is to be written.
    pub plot: Option<std::path::PathBuf>,
}

/// How many single changes a run makes.
const CHANGES: usize = 200;

/// How many workloads the clusters have on which growth is shown.
const GROWTH: [usize; 6] = [50, 100, 200, 400, 800, 1600];

/// Where the generated pods' addresses lie.
const POD_CIDR: &str = "10.64.0.0/10";

/// Measures all of it.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut report = Report::default();
    let mut growth = Vec::new();
    for count in GROWTH {
        progress(&format!("all connections of {count} workloads"));
        let cluster = load(&text(Size::workloads(count))?)?;
        let runs = repeat(options.runs, || seconds(|| connections(&cluster, &assumptions())))?;
        let figure = figure(&format!("connections {count} workloads"), "ms", &scale(&runs, 1e3))?;
        growth.push((count, figure.p50));
        report.figures.push(figure);
    }
    if let Some(path) = &options.plot {
        let curves = growth::measure(options.runs, progress)?;
        std::fs::write(path, plot::svg(&curves)).with_context(|| format!("write {}", path.display()))?;
    }
    large(options, progress, &mut report)?;
    report.notes.push("connections of a generated cluster, one policy a workload, ms:".to_owned());
    report.notes.extend(plot(&growth));
    report.notes.push(format!(
        "large: {} pods of {} workloads on {} nodes, {} policies; \"load\" is JSON, as a list of the \
         API gives it, to the model, by one thread; \"answer\" is every pair of kinds of pods on every port, by all \
         processors",
        Size::LARGE.pods(),
        Size::LARGE.namespaces * Size::LARGE.workloads,
        Size::LARGE.pods() / PODS_OF_A_NODE,
        Size::LARGE.all_policies(),
    ));
    Ok(report)
}

/// The large cluster, whole and seen from one node.
fn large(options: &Options, progress: &mut dyn FnMut(&str), report: &mut Report) -> Result<()> {
    progress("make the large cluster");
    let text = text(Size::LARGE)?;
    let (mut loads, mut answers, mut both) = (Vec::new(), Vec::new(), Vec::new());
    let mut loaded = Cluster::default();
    for run in 1..=options.runs {
        progress(&format!("load the large cluster and answer for all of it: run {run} of {}", options.runs));
        // Not two of them in memory at once.
        drop(std::mem::take(&mut loaded));
        let start = Instant::now();
        loaded = load(&text)?;
        let load = start.elapsed().as_secs_f64();
        let counted = pairs(&loaded, &assumptions());
        let all = start.elapsed().as_secs_f64();
        if counted.permitted == 0 || counted.permitted == counted.asked {
            bail!("the answer says nothing: {counted:?}");
        }
        loads.push(load);
        answers.push(all - load);
        both.push(all);
        if run == options.runs {
            report.notes.push(format!(
                "large: {} kinds of pods, {} pairs, {} permitted on some port",
                counted.kinds, counted.asked, counted.permitted
            ));
        }
    }
    for (case, runs) in [("large load", loads), ("large answer", answers), ("large load and answer", both)] {
        report.figures.push(figure(case, "s", &runs)?);
    }
    report.figures.push(figure("large peak memory", "MB", &[peak_memory()?])?);
    drop(text);
    node(options, progress, loaded, report)
}

/// The rows of one node of the large cluster, and what one change costs.
fn node(
    options: &Options,
    progress: &mut dyn FnMut(&str),
    mut cluster: Cluster,
    report: &mut Report,
) -> Result<()> {
    let config = Config { node: "node-7".into(), pod_cidrs: vec![POD_CIDR.parse()?] };
    let mut compiles = Vec::new();
    let (mut compiler, mut plan) = (Compiler::new(config.clone()), Plan::default());
    for run in 1..=options.runs {
        progress(&format!("compile one node's rows: run {run} of {}", options.runs));
        compiler = Compiler::new(config.clone());
        let start = Instant::now();
        plan = compiler.update(&cluster, &[]);
        compiles.push(start.elapsed().as_secs_f64());
    }
    report.figures.push(figure("node of 250 pods: first compile", "s", &compiles)?);
    written(options, progress, &plan, &compiler, report)?;
    let tables = compiler.tables();
    let exceptions: usize = tables.sets.values().map(|it| it.exceptions.len()).sum();
    report.notes.push(format!(
        "node: rows: {} classes of addresses, {} postures, {} intervals, {} sets with {exceptions} exceptions",
        tables.classes.len(),
        tables.postures.len(),
        tables.intervals.len(),
        tables.sets.len(),
    ));
    let first = 7 * PODS_OF_A_NODE;
    let kinds: [(&str, fn(usize, usize) -> Value); 3] = [
        ("node of 250 pods: one pod elsewhere", |_, round| relabelled_pod(50_000 + round % 100, round)),
        ("node of 250 pods: one pod here", |first, round| relabelled_pod(first + round % 100, round)),
        ("node of 250 pods: one policy", |first, round| changed_policy(first, round)),
    ];
    for (case, change) in kinds {
        progress(case);
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            let mut took = Vec::with_capacity(CHANGES);
            for round in 0..CHANGES {
                let changes = apply(&mut cluster, &change(first, round))?;
                let start = Instant::now();
                compiler.update(&cluster, &changes);
                took.push(u64::try_from(start.elapsed().as_nanos())?);
            }
            runs.extend(Sample::of_nanoseconds(took, 1e6));
        }
        let summary = Summary::of(&runs).context("no run was asked for")?;
        report.figures.push(summarised(case, "ms", summary, runs.len()));
    }
    Ok(())
}

/// The node's rows, written to the kernel.
fn written(
    options: &Options,
    progress: &mut dyn FnMut(&str),
    plan: &Plan,
    compiler: &Compiler,
    report: &mut Report,
) -> Result<()> {
    if !kernel::is_possible() {
        report.notes.push("node: rows were not written to the kernel, which needs root".to_owned());
        return Ok(());
    }
    let (mut times, mut bytes) = (Vec::new(), Vec::new());
    for run in 1..=options.runs {
        progress(&format!("write the node's rows to the kernel: run {run} of {}", options.runs));
        let written = kernel::write(plan, compiler.tables(), POD_CIDR)?;
        times.push(written.seconds);
        bytes.push(written.bytes as f64 / 1e6);
    }
    report.figures.push(figure("node of 250 pods: rows to the kernel", "s", &times)?);
    report.figures.push(figure("node of 250 pods: rows in the kernel", "MB", &bytes)?);
    Ok(())
}

/// A pod of the large cluster whose labels alternate.
fn relabelled_pod(number: usize, round: usize) -> Value {
    let mut pod = cluster::pod(Size::LARGE, number);
    pod["metadata"]["labels"]["tier"] = format!("tier-{}", 3 + (round / 100) % 2).into();
    pod
}

/// A policy that selects pods of the node, whose ports and peers change.
fn changed_policy(first: usize, round: usize) -> Value {
    let namespace = first / (Size::LARGE.replicas * Size::LARGE.workloads);
    let mut policy = cluster::policy(Size::LARGE, namespace, 2 + round % 8);
    policy["spec"]["ingress"][1]["ports"] = json!([{"port": 8080 + (round / 8) % 10, "endPort": 8090}]);
    let team = format!("team-{}", (round / 8) % 10);
    policy["spec"]["ingress"][1]["from"][0]["namespaceSelector"]["matchLabels"]["team"] = team.into();
    policy
}

fn apply(cluster: &mut Cluster, object: &Value) -> Result<Vec<Change>> {
    let event = event(object)?.context("a kind that the model holds")?;
    Ok(cluster.apply(event).into_iter().collect())
}

fn event(object: &Value) -> Result<Option<Event>> {
    kilter_objects::to_event(object, Origin::Builtin).map_err(|e| anyhow!("a generated object is bad: {e}"))
}

/// A list of a generated cluster's objects, as the API gives it.
fn text(size: Size) -> Result<String> {
    let mut text = Vec::new();
    let mut list = serde_json::Serializer::new(&mut text);
    list.collect_seq(cluster::objects(size))?;
    Ok(String::from_utf8(text)?)
}

/// Reads the list as it comes: only one of its objects is in memory at once.
fn load(text: &str) -> Result<Cluster> {
    let mut cluster = Cluster::default();
    serde_json::Deserializer::from_str(text).deserialize_seq(Into(&mut cluster))?;
    Ok(cluster)
}

/// Takes the objects of a list into a cluster.
struct Into<'a>(&'a mut Cluster);

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> Result<(), A::Error> {
        while let Some(object) = objects.next_element::<Value>()? {
            if let Some(event) = event(&object).map_err(A::Error::custom)? {
                self.0.apply(event);
            }
        }
        Ok(())
    }
}

fn assumptions() -> Assumptions {
    let cidr: Option<IpNet> = POD_CIDR.parse().ok();
    Assumptions { pod_cidrs: cidr.into_iter().collect(), ..Assumptions::default() }
}

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    let result = std::hint::black_box(work());
    let took = start.elapsed().as_secs_f64();
    drop(result);
    took
}

fn repeat(runs: usize, mut work: impl FnMut() -> f64) -> Result<Vec<f64>> {
    if runs == 0 {
        bail!("--runs 0 measures nothing");
    }
    Ok((0..runs).map(|_| work()).collect())
}

fn scale(values: &[f64], by: f64) -> Vec<f64> {
    values.iter().map(|it| it * by).collect()
}

/// The most memory that this process has had, in megabytes.
fn peak_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let kilobytes: f64 =
        line.and_then(|it| it.split_whitespace().next()?.parse().ok()).context("no VmHWM")?;
    Ok(kilobytes * 1024.0 / 1e6)
}

fn figure(case: &str, unit: &'static str, runs: &[f64]) -> Result<Figure> {
    let samples: Vec<Sample> = runs.iter().map(|it| Sample { p50: *it, p99: *it }).collect();
    let summary = Summary::of(&samples).context("no run was asked for")?;
    Ok(summarised(case, unit, summary, runs.len()))
}

fn summarised(case: &str, unit: &'static str, it: Summary, runs: usize) -> Figure {
    let (case, subject) = (case.to_owned(), "kilter".to_owned());
    Figure {
        bench: "policy",
        case,
        subject,
        unit,
        p50: it.p50,
        p99: it.p99,
        low: it.low,
        high: it.high,
        runs,
    }
}

/// Bars, one a line, the longest 50 characters.
fn plot(points: &[(usize, f64)]) -> Vec<String> {
    let highest = points.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let bar = |value: f64| "#".repeat(((value / highest * 50.0).round() as usize).max(1));
    points.iter().map(|(at, value)| format!("{at:>6}  {:<50}  {value:.1}", bar(*value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_cluster_is_what_it_says_and_valid() {
        let size = Size { namespaces: 3, workloads: 4, replicas: 2, policies: 5, ports: 2 };
        for object in cluster::objects(size) {
            assert_eq!(kilter_objects::validate(&object), [], "{object}");
        }
        let cluster = load(&text(size).unwrap()).unwrap();
        assert_eq!(cluster.pods().count(), size.pods());
        assert_eq!(cluster.policies().count() + cluster.cluster_policies().count(), size.all_policies());
        let counted = pairs(&cluster, &assumptions());
        assert_eq!(counted.kinds, 12);
        assert!(0 < counted.permitted && counted.permitted < counted.asked, "{counted:?}");
    }

    #[test]
    fn rows_are_written_to_the_kernel_and_read_back() {
        let size = Size { namespaces: 3, workloads: 4, replicas: 2, policies: 5, ports: 2 };
        let cluster = load(&text(size).unwrap()).unwrap();
        let config = Config { node: "node-0".into(), pod_cidrs: vec![POD_CIDR.parse().unwrap()] };
        let mut compiler = Compiler::new(config);
        let plan = compiler.update(&cluster, &[]);
        let written = kernel::write(&plan, compiler.tables(), POD_CIDR).unwrap();
        assert!(written.seconds > 0.0 && written.bytes > 0, "{} s, {} bytes", written.seconds, written.bytes);
    }
}
