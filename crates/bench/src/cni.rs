//! How long a container runtime waits for a CNI plugin to wire a pod and to unwire it: from the
//! start of the plugin's process to its end, which is what a pod's start waits for.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kilter_netns::NetNs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figure::{Figure, Report};
use crate::statistics::{Sample, Summary};

/// Where Debian keeps the reference plugins (package containernetworking-plugins).
const REFERENCE_PLUGINS: &str = "/usr/lib/cni";
/// The interface that a runtime asks for.
const INTERFACE: &str = "eth0";

/// A plugin to measure.
pub struct Plugin {
    /// The subject's name in a figure.
    pub subject: String,
    /// Its program; plugins that it delegates to are looked for beside it.
    pub program: PathBuf,
    /// The network configuration on its standard input.
    pub config: Value,
    /// `CNI_ARGS`; empty for none.
    pub args: String,
    /// The node: where the plugin runs.
    pub node: Arc<NetNs>,
}

/// What to measure.
pub struct Options {
    /// Runs of each plugin.
    pub runs: usize,
    /// Pods that a run wires one after the other, and then unwires.
    pub pods: usize,
    /// Whether `ptp` and `bridge` run beside.
    pub peers: bool,
    /// Plugins of the caller, measured first: Kilter's, with a node of a running twin.
    pub plugins: Vec<Plugin>,
}

impl Default for Options {
    fn default() -> Self {
        Self { runs: 5, pods: 20, peers: true, plugins: Vec::new() }
    }
}

/// Measures ADD and DEL of every plugin in one run. Needs root.
pub fn run(options: Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut plugins = options.plugins;
    let mut addresses = None;
    if options.peers {
        let directory = tempfile::tempdir().context("make a directory for the peers' addresses")?;
        plugins.extend(peers(addresses.insert(directory))?);
    }
    let mut samples: Vec<(Vec<Sample>, Vec<Sample>)> = plugins.iter().map(|_| Default::default()).collect();
    for run in 1..=options.runs {
        progress(&format!("wire and unwire {} pods: run {run} of {}", options.pods, options.runs));
        for (plugin, (adds, dels)) in plugins.iter().zip(&mut samples) {
            let (add, del) = measure(plugin, options.pods, run).with_context(|| plugin.subject.clone())?;
            adds.push(add);
            dels.push(del);
        }
    }
    let mut report = Report::default();
    for (case, pick) in [("add", 0), ("del", 1)] {
        for (plugin, (adds, dels)) in plugins.iter().zip(&samples) {
            let runs = if pick == 0 { adds } else { dels };
            report.figures.extend(Summary::of(runs).map(|summary| figure(case, plugin, summary, runs.len())));
        }
    }
    report
        .notes
        .push("from the start of the plugin's process to its end, as a container runtime waits".into());
    Ok(report)
}

fn figure(case: &str, plugin: &Plugin, summary: Summary, runs: usize) -> Figure {
    Figure {
        bench: "cni",
        case: case.into(),
        subject: plugin.subject.clone(),
        unit: "ms",
        p50: summary.p50,
        p99: summary.p99,
        low: summary.low,
        high: summary.high,
        runs,
    }
}

/// The reference plugins that wire pods by veth pairs, each on a node of its own.
fn peers(directory: &TempDir) -> Result<Vec<Plugin>> {
    let make = |kind: &str, subnet: &str, more: Value| -> Result<Plugin> {
        let program = Path::new(REFERENCE_PLUGINS).join(kind);
        if !program.exists() {
            bail!(
                "{} is missing (Debian's package containernetworking-plugins; `make setup`)",
                program.display()
            );
        }
        let ipam = json!({"type": "host-local", "dataDir": directory.path().join(kind), "subnet": subnet});
        // The version that the plugins of Debian 12 speak.
        let mut config =
            json!({"cniVersion": "1.0.0", "name": format!("bench-{kind}"), "type": kind, "ipam": ipam});
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        let node = Arc::new(NetNs::create().context("make a network namespace (this needs root)")?);
        Ok(Plugin { subject: kind.into(), program, config, args: String::new(), node })
    };
    Ok(vec![
        make("ptp", "10.253.0.0/16", json!({}))?,
        make("bridge", "10.254.0.0/16", json!({"bridge": "cni0", "isGateway": true}))?,
    ])
}

/// Wires `count` pods one after the other, then unwires them. Milliseconds of each ADD and DEL.
fn measure(plugin: &Plugin, count: usize, run: usize) -> Result<(Sample, Sample)> {
    let mut pods = Wired { plugin, pods: Vec::with_capacity(count) };
    let mut adds = Vec::with_capacity(count);
    for number in 0..count {
        let netns = NetNs::create().context("make a pod's network namespace")?;
        pods.pods.push((format!("bench{:08x}{run:04x}{number:04x}", std::process::id()), netns));
        let (id, netns) = &pods.pods[number];
        let (nanoseconds, output) = execute(plugin, "ADD", id, netns)?;
        check(plugin, netns, &output)?;
        adds.push(nanoseconds);
    }
    let mut dels = Vec::with_capacity(count);
    while let Some((id, netns)) = pods.pods.pop() {
        dels.push(execute(plugin, "DEL", &id, &netns)?.0);
    }
    let sample =
        |all| Sample::of_nanoseconds(all, 1e6).context("nothing was measured: no pods were asked for");
    Ok((sample(adds)?, sample(dels)?))
}

/// Pods that have been wired; those that still are when a run fails are unwired on drop, since
/// the plugin keeps records outside their namespaces.
struct Wired<'a> {
    plugin: &'a Plugin,
    pods: Vec<(String, NetNs)>,
}

impl Drop for Wired<'_> {
    fn drop(&mut self) {
        for (id, netns) in &self.pods {
            // The failure that brought us here is the one to be told.
            let _ = execute(self.plugin, "DEL", id, netns);
        }
    }
}

/// Runs the plugin once, as SPEC section 2 says; its duration in nanoseconds and what it printed.
fn execute(plugin: &Plugin, command: &str, id: &str, netns: &NetNs) -> Result<(u64, Vec<u8>)> {
    // The descriptor's magic link: a path that ends with this process, so nothing can be left mounted.
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    let config = serde_json::to_vec(&plugin.config)?;
    let beside = plugin.program.parent().unwrap_or(Path::new("/"));
    let mut process = Command::new(&plugin.program);
    process
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", path)
        .env("CNI_IFNAME", INTERFACE)
        .env("CNI_PATH", beside)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if !plugin.args.is_empty() {
        process.env("CNI_ARGS", &plugin.args);
    }
    let (nanoseconds, output) = plugin.node.run(|| -> Result<_> {
        let start = Instant::now();
        let mut child = process.spawn().with_context(|| format!("run {}", plugin.program.display()))?;
        // A plugin that does not read ends with an error of its own, which says more than EPIPE.
        let _ = child.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, &config));
        let output = child.wait_with_output()?;
        Ok((start.elapsed().as_nanos() as u64, output))
    })??;
    if !output.status.success() {
        let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        bail!("{command} failed: {}", String::from_utf8_lossy(said).trim());
    }
    Ok((nanoseconds, output.stdout))
}

/// A plugin that answers without having done anything would be the fastest of all.
fn check(plugin: &Plugin, netns: &NetNs, output: &[u8]) -> Result<()> {
    let result: Value = serde_json::from_slice(output).context("ADD did not answer with JSON")?;
    if result["ips"].as_array().is_none_or(Vec::is_empty) {
        bail!("ADD gave the pod no address: {result}");
    }
    let found = netns.run(|| nix::net::if_::if_nametoindex(INTERFACE))?;
    found.map(drop).with_context(|| format!("{} made no {INTERFACE} in the pod", plugin.subject))
}
