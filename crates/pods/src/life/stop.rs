use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::process::Process;
use super::{Event, Orders, Teller};
use crate::container::End;

/// Every container gets this long between the two signals, however late it is (kubernetes
/// `pkg/kubelet/kuberuntime`).
const LEAST: Duration = Duration::from_secs(2);

/// How a run is to end.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The time for all of it: hook, turn and signal.
    pub grace: Duration,
    /// How long a stand-in serves on after its signal.
    pub drain: Duration,
    /// The runs that must be over before this one is told to end: sidecars are ended last.
    pub after: Vec<CancellationToken>,
}

/// Ends a run in order: its hook, then its turn, then SIGTERM, at last SIGKILL.
pub(super) async fn stop(
    process: &mut Option<Process>,
    orders: &mut Orders,
    order: Order,
    hook: impl Future<Output = Result<(), String>>,
    teller: &Teller,
) -> End {
    let begun = Instant::now();
    if !order.grace.is_zero() {
        let hooked = tokio::select! {
            hooked = hook => hooked,
            () = expired(orders, &order, begun, Duration::ZERO) => Err("it took longer than the grace period".into()),
            end = ended(process) => return end,
        };
        if let Err(why) = hooked {
            teller.tell(Event::Warning("FailedPreStopHook", format!("PreStopHook failed: {why}"))).await;
        }
        let turn = async {
            for run in &order.after {
                run.cancelled().await;
            }
        };
        tokio::select! {
            () = turn => {}
            () = expired(orders, &order, begun, Duration::ZERO) => {}
            end = ended(process) => return end,
        }
    }
    let Some(running) = process else {
        tokio::select! {
            () = tokio::time::sleep(order.drain) => {}
            () = expired(orders, &order, begun, Duration::ZERO) => {}
        }
        return End::Stopped;
    };
    running.signal();
    let least = begun.elapsed() + LEAST;
    tokio::select! {
        code = running.ended() => return End::Exited(code),
        () = expired(orders, &order, begun, least) => {}
    }
    running.kill().await;
    End::Exited(running.ended().await)
}

async fn ended(process: &mut Option<Process>) -> End {
    match process {
        Some(process) => End::Exited(process.ended().await),
        None => std::future::pending().await,
    }
}

/// Waits until the time is up, which a later order may shorten.
async fn expired(orders: &Orders, order: &Order, begun: Instant, least: Duration) {
    let mut orders = orders.clone();
    loop {
        let grace = orders.borrow_and_update().as_ref().map_or(order.grace, |latest| latest.grace);
        tokio::select! {
            () = tokio::time::sleep_until(begun + grace.max(least)) => return,
            Ok(()) = orders.changed() => {}
        }
    }
}
