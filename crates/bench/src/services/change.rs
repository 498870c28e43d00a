//! How long a change of an endpoint slice takes to the first connection that follows it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kilter_netns::NetNs;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::client::ask;
use super::manifests::moving;
use super::slices::Slices;
use crate::work::PATIENCE;

/// The two pods that a Service may lead to: address, and what its server answers.
pub(super) type Backends = [(IpAddr, u8); 2];

/// How long the client rests between two connections: it must not take the processors from those who
/// are measured.
const REST: Duration = Duration::from_micros(250);
/// Changes of other Services in a second, where there are any.
pub(super) const CHURN: u32 = 100;

/// What was measured.
pub(super) struct Followed {
    /// Nanoseconds of each change, from before it is sent to the API to the answer of the pod it leads to.
    pub(super) durations: Vec<u64>,
    /// Changes of other Services meanwhile, in a second.
    pub(super) churn: f64,
}

/// Lets moving Service 0 lead here and there, `times` times, while Services 1 to `others` change too.
pub(super) fn follow(
    runtime: &Runtime,
    slices: &Slices,
    client: &NetNs,
    backends: &Backends,
    (times, others): (usize, usize),
) -> Result<Followed> {
    let wanted = AtomicU8::new(0);
    let over = AtomicBool::new(false);
    let (arrived, arrivals) = mpsc::channel();
    let churn = Churn::start(runtime, slices, backends, others);
    let began = Instant::now();
    let durations = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            client.set()?;
            watch(moving(0), &wanted, &over, &arrived)
        });
        let durations = turn(runtime, slices, backends, times, &wanted, &arrivals);
        over.store(true, Ordering::Relaxed);
        watching.join().expect("BUG: the client thread panicked")?;
        durations
    })?;
    let changes = churn.stop(runtime)?;
    Ok(Followed { durations, churn: changes as f64 / began.elapsed().as_secs_f64() })
}

fn turn(
    runtime: &Runtime,
    slices: &Slices,
    backends: &Backends,
    times: usize,
    wanted: &AtomicU8,
    arrivals: &Receiver<Instant>,
) -> Result<Vec<u64>> {
    let mut durations = Vec::with_capacity(times);
    for time in 0..times {
        let (address, who) = backends[(time + 1) % 2];
        wanted.store(who, Ordering::SeqCst);
        let began = Instant::now();
        runtime.block_on(slices.lead(0, address))?;
        let arrived = arrivals.recv_timeout(PATIENCE).with_context(|| {
            format!("no connection followed the change to {address} within {} s", PATIENCE.as_secs())
        })?;
        durations.push(arrived.saturating_duration_since(began).as_nanos() as u64);
    }
    Ok(durations)
}

/// Connects again and again, and tells when the wanted pod answers for the first time. Fails when a
/// connection fails, or goes back to the other pod.
fn watch(to: SocketAddr, wanted: &AtomicU8, over: &AtomicBool, arrived: &Sender<Instant>) -> Result<()> {
    let mut reached = 0;
    while !over.load(Ordering::Relaxed) {
        let want = wanted.load(Ordering::SeqCst);
        let who = ask(to)?;
        if want != 0 && who == want && reached != want {
            reached = want;
            let _ = arrived.send(Instant::now());
        } else if reached == want && who != want && want == wanted.load(Ordering::SeqCst) {
            bail!("a connection to {to} reached {:?} after the change had been followed", char::from(who));
        }
        std::thread::sleep(REST);
    }
    Ok(())
}

/// Changes of other Services, at a steady rate.
struct Churn {
    task: JoinHandle<Result<()>>,
    done: std::sync::Arc<AtomicUsize>,
}

impl Churn {
    fn start(runtime: &Runtime, slices: &Slices, backends: &Backends, others: usize) -> Self {
        let done = std::sync::Arc::new(AtomicUsize::new(0));
        let (slices, backends, count) = (slices.clone(), *backends, done.clone());
        let task = runtime.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHURN);
            for turn in 0usize.. {
                if others == 0 {
                    break;
                }
                ticks.tick().await;
                let (address, _) = backends[(turn / others + 1) % 2];
                slices.lead(1 + turn % others, address).await?;
                count.store(turn + 1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { task, done }
    }

    fn stop(self, runtime: &Runtime) -> Result<usize> {
        self.task.abort();
        match runtime.block_on(self.task) {
            Ok(ended) => ended?,
            Err(aborted) if aborted.is_cancelled() => {}
            Err(panicked) => bail!("BUG: the changing task panicked: {panicked}"),
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}
