//! `kilter chaos`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use kilter_twin::TwinSpec;
use kilter_twin::chaos::{self, Fault};
use serde_json::json;

use super::{print_json, runtime};
use crate::cli::{Output, TwinArgs};
use crate::exit::Outcome;

/// Between two looks at whether everything works again.
const GLANCE: Duration = Duration::from_millis(200);

/// `kilter chaos`.
#[derive(Debug, Args)]
pub struct ChaosArgs {
    #[command(flatten)]
    pub twin: TwinArgs,
    #[command(subcommand)]
    pub what: What,
}

/// What to break, or to mend.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Take a node's link into the fabric down: neither its pods nor the API reach it.
    CutNode {
        node: String,
        #[command(flatten)]
        mending: Mending,
    },
    /// Lose every frame between two nodes, and none to others.
    CutLink {
        from: String,
        to: String,
        #[command(flatten)]
        mending: Mending,
    },
    /// Lose some of the frames between a node and the others, at random.
    Loss {
        node: String,
        /// How many of a hundred.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
        percent: u32,
        #[command(flatten)]
        mending: Mending,
    },
    /// Let what a node exchanges with the others come later (needs netem in the kernel).
    Delay {
        node: String,
        /// By how many milliseconds, each way: a round trip takes twice as much longer.
        milliseconds: u32,
        #[command(flatten)]
        mending: Mending,
    },
    /// Make a pod's stand-ins fail a probe.
    FailProbe {
        /// `[namespace/]name`.
        pod: String,
        /// Which probe.
        #[arg(value_parser = ["readiness", "liveness", "startup"])]
        probe: String,
        #[command(flatten)]
        mending: Mending,
    },
    /// Kill a pod's pause process; the kubelet makes the pod anew.
    KillPod {
        /// `[namespace/]name`.
        pod: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Kill a node's Kilter process; connections of its pods live on.
    KillNode {
        node: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// What is broken now.
    List,
    /// Mend everything, and wait until packets and model agree again.
    Heal(Waiting),
}

/// When it is mended.
#[derive(Debug, Args)]
pub struct Mending {
    /// Mend it after so many seconds, and wait until all is well; without, it stays until `kilter chaos heal`.
    #[arg(long = "for", value_name = "SECONDS")]
    pub seconds: Option<f64>,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// How long to wait until all is well again.
#[derive(Debug, Clone, Copy, Args)]
pub struct Waiting {
    /// Give up waiting until all is well after so many seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

pub fn run(args: ChaosArgs) -> Result<Outcome> {
    let spec = kilter_twin::running(&args.twin.name)?;
    let json = args.twin.output == Output::Json;
    runtime()?.block_on(async {
        let (fault, mending) = match args.what {
            What::List => return list(&spec, json),
            What::Heal(waiting) => return heal(&spec, waiting, json).await,
            What::KillPod { pod, waiting } => {
                return kill(&spec, Fault::KillPod { pod }, waiting, json).await;
            }
            What::KillNode { node, waiting } => {
                return kill(&spec, Fault::KillNode { node }, waiting, json).await;
            }
            What::CutNode { node, mending } => (Fault::CutNode { node }, mending),
            What::CutLink { from, to, mending } => (Fault::CutLink { from, to }, mending),
            What::Loss { node, percent, mending } => (Fault::Loss { node, percent }, mending),
            What::Delay { node, milliseconds, mending } => (Fault::Delay { node, milliseconds }, mending),
            What::FailProbe { pod, probe, mending } => (Fault::FailProbe { pod, probe }, mending),
        };
        chaos::inject(&spec, fault.clone()).await?;
        let Some(seconds) = mending.seconds else {
            return done(&fault, json);
        };
        say(&format!("{fault}, for {seconds} s"), json);
        let duration = Duration::try_from_secs_f64(seconds).context("--for wants a number of seconds")?;
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            // Whoever interrupts wants it mended, and to be told whether it was.
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        heal(&spec, mending.waiting, json).await
    })
}

fn list(spec: &TwinSpec, json: bool) -> Result<Outcome> {
    let faults = chaos::faults(spec)?;
    match json {
        true => print_json(&faults)?,
        false if faults.is_empty() => outln!("nothing is broken on purpose"),
        false => faults.iter().for_each(|fault| outln!("{fault}")),
    }
    Ok(Outcome::Clean)
}

fn done(fault: &Fault, json: bool) -> Result<Outcome> {
    match json {
        true => print_json(fault)?,
        false => outln!("{fault}; mend it with `kilter chaos heal`"),
    }
    Ok(Outcome::Clean)
}

fn say(text: &str, json: bool) {
    if !json {
        outln!("{text}");
    }
}

async fn kill(spec: &TwinSpec, fault: Fault, waiting: Waiting, json: bool) -> Result<Outcome> {
    chaos::inject(spec, fault.clone()).await?;
    say(&fault.to_string(), json);
    recovered(spec, &[fault], waiting, json).await
}

async fn heal(spec: &TwinSpec, waiting: Waiting, json: bool) -> Result<Outcome> {
    let faults = chaos::heal(spec).await?;
    match faults.is_empty() {
        true => say("nothing was broken on purpose", json),
        false => say("mended", json),
    }
    recovered(spec, &faults, waiting, json).await
}

/// Waits until everything runs and packets and model agree, and says how long that took.
async fn recovered(spec: &TwinSpec, faults: &[Fault], waiting: Waiting, json: bool) -> Result<Outcome> {
    let started = Instant::now();
    let deadline = started + Duration::from_secs(waiting.timeout);
    let mut last = "nothing was tried".to_owned();
    while Instant::now() < deadline {
        match look(spec).await {
            Ok(()) => {
                // A look tries what disagrees twice, so only its end is known to be late enough.
                let took = started.elapsed();
                match json {
                    true => print_json(&json!({"faults": faults, "recovered": true, "millis": took.as_millis()}))?,
                    false => outln!("all is well again, and packets agree with the model, within {:.1} s", took.as_secs_f64()),
                }
                return Ok(Outcome::Clean);
            }
            Err(why) => last = format!("{why:#}"),
        }
        tokio::time::sleep(GLANCE).await;
    }
    match json {
        true => print_json(&json!({"faults": faults, "recovered": false, "why": last}))?,
        false => outln!("not well after {} s: {last}", waiting.timeout),
    }
    Ok(Outcome::Finding)
}

/// An error says what is not well.
async fn look(spec: &TwinSpec) -> Result<()> {
    let status = kilter_twin::status(&spec.name).await?;
    anyhow::ensure!(status.is_healthy(), "not everything is ready; see `kilter status`");
    let report = kilter_verify::verify(spec, &kilter_verify::Options::default()).await?;
    anyhow::ensure!(report.disagreements == 0, "{report}");
    Ok(())
}
