//! How long a node that has never seen the cluster takes until its last Service is reachable.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kilter_netns::NetNs;

use super::client::{ask_within, reach_within};
use super::manifests::fixed;
use crate::kilter::Lab;
use crate::place::Membership;

/// The name that the twin gives to the next node.
const NODE: &str = "node-3";
/// What a try takes at most: before the node's hooks are there, nobody answers.
const TRY: Duration = Duration::from_millis(10);
/// A node that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds from the start of `kilter node add`, as seen from the new node's own namespace.
pub(super) struct ColdStart {
    /// To the first answer.
    pub(super) first: f64,
    /// Until a connection has been accepted through every one of the Services, one after the other. (An answer to
    /// each would measure the asking: it takes longer than the node does.)
    pub(super) last: f64,
}

/// Adds a node, and takes it away again.
pub(super) fn start(lab: &Lab, services: usize) -> Result<ColdStart> {
    let began = Instant::now();
    let reached = thread::scope(|scope| {
        let adding = scope.spawn(|| lab.twin().node(&["add"]));
        let reached = reach(lab, services, began);
        adding.join().expect("BUG: the adding thread panicked").and(reached)
    });
    lab.twin().node(&["remove", NODE])?;
    reached
}

fn reach(lab: &Lab, services: usize, began: Instant) -> Result<ColdStart> {
    let (netns, _membership) = loop {
        match enter(lab) {
            Ok(entered) => break entered,
            Err(_) if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.context(format!("{NODE} has no namespace"))),
        }
    };
    netns.run(|| {
        let mut first = None;
        for number in 0..services {
            while let Err(error) = reach_within(fixed(number), TRY) {
                if began.elapsed() > PATIENCE {
                    bail!("Service {number} is not reachable from {NODE}: {error}");
                }
            }
            if first.is_none() {
                ask_within(fixed(number), PATIENCE).context("ask through the first Service")?;
                first = Some(began.elapsed().as_secs_f64());
            }
        }
        let last = began.elapsed().as_secs_f64();
        Ok(ColdStart { first: first.unwrap_or(last), last })
    })?
}

/// A socket gets the hooks of the cgroup that its process is in.
fn enter(lab: &Lab) -> Result<(NetNs, Membership)> {
    let node = lab.node(NODE)?;
    Ok((NetNs::open(node.namespace)?, Membership::join(&node.cgroup)?))
}
