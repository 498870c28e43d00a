//! One run of one container: from the start of its program or stand-in, through its lifecycle
//! hooks, to its end. Each is a task, which its pod's task orders to stop.

mod hook;
mod process;
mod stop;

pub use hook::Hooks;
pub use process::{NotStarted, Plan};
pub use stop::Order;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Lifecycle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::container::End;
use crate::program::Interior;
use process::Process;

/// What a run is about.
pub struct Run {
    /// The container.
    pub container: Arc<str>,
    /// Which of its runs.
    pub number: u64,
    /// Its hooks.
    pub lifecycle: Lifecycle,
    /// How hooks are run.
    pub hooks: Hooks,
    /// The program; a stand-in has none.
    pub plan: Option<Plan>,
    /// When a stand-in ends by itself, and with which exit code.
    pub exit: Option<(Duration, i32)>,
    /// How long the pod is given to end when a hook ends it.
    pub grace: Duration,
}

/// What happened to a run.
#[derive(Debug)]
pub struct Report {
    /// The container.
    pub container: Arc<str>,
    /// Which of its runs.
    pub number: u64,
    /// What.
    pub event: Event,
}

/// What can happen to a run.
#[derive(Debug)]
pub enum Event {
    /// Its program or stand-in is there; hooks may still have to be run. They are once the second
    /// part is dropped, which is when a stand-in listens on its ports.
    Alive(Option<Arc<Interior>>, oneshot::Sender<()>),
    /// Its `postStart` hook, if it has one, has succeeded.
    Started,
    /// Something that somebody should know: an event's reason and message.
    Warning(&'static str, String),
    /// It is over.
    Ended(End),
}

/// A run that goes on. Dropping this ends it at once.
#[derive(Debug)]
pub struct Life {
    orders: watch::Sender<Option<Order>>,
    task: JoinHandle<()>,
    gone: CancellationToken,
}

impl Life {
    /// Starts it; what happens is told to `reports`.
    pub fn start(run: Run, reports: mpsc::Sender<Report>) -> Self {
        let (orders, given) = watch::channel(None);
        let gone = CancellationToken::new();
        let task = tokio::spawn({
            let gone = gone.clone();
            async move {
                let _gone = gone.drop_guard();
                let teller = Teller { container: run.container.clone(), number: run.number, reports };
                // Most of a run is waiting: what it takes to start and stop is kept elsewhere.
                let end = Box::pin(live(run, given, &teller)).await;
                teller.tell(Event::Ended(end)).await;
            }
        });
        Self { orders, task, gone }
    }

    /// Has it end; a later order may give less time.
    pub fn stop(&self, order: Order) {
        self.orders.send_replace(Some(order));
    }

    /// Is cancelled once the run is over.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Teller {
    container: Arc<str>,
    number: u64,
    reports: mpsc::Sender<Report>,
}

impl Teller {
    async fn tell(&self, event: Event) {
        let report = Report { container: self.container.clone(), number: self.number, event };
        // Nobody listens any more when the pod's task has ended, and this one ends with it.
        let _ = self.reports.send(report).await;
    }
}

type Orders = watch::Receiver<Option<Order>>;

async fn live(run: Run, mut orders: Orders, teller: &Teller) -> End {
    let mut process = match run.plan {
        None => None,
        Some(plan) => match plan.start().await {
            Ok(process) => Some(process),
            Err(why) => return End::NotStarted(why),
        },
    };
    let interior = process.as_ref().map(Process::interior);
    let (hooks, lifecycle) = (run.hooks, run.lifecycle);
    let pre_stop = lifecycle.pre_stop.as_ref();
    let (listens, listening) = oneshot::channel();
    if interior.is_some() || lifecycle.post_start.is_some() {
        teller.tell(Event::Alive(interior.clone(), listens)).await;
    }
    let mut hooked = Ok(());
    if let Some(hook) = &lifecycle.post_start {
        let run = async {
            let _ = listening.await;
            hooks.run(hook, interior.as_deref()).await
        };
        hooked = tokio::select! {
            hooked = run => hooked,
            end = over(&mut process, None) => return end,
            () = ordered(&mut orders) => Ok(()),
        };
    }
    if let Err(why) = hooked {
        teller.tell(Event::Warning("FailedPostStartHook", format!("PostStartHook failed: {why}"))).await;
        let order = Order { grace: run.grace, ..Order::default() };
        // Orders that come now may still give less time.
        let _ = stop::stop(&mut process, &mut orders, order, async { Ok(()) }, teller).await;
        return End::PostStartHook(why);
    }
    if interior.is_some() || lifecycle.post_start.is_some() {
        teller.tell(Event::Started).await;
    }
    tokio::select! {
        end = over(&mut process, run.exit) => return end,
        () = ordered(&mut orders) => {}
    }
    let order = orders.borrow_and_update().clone().unwrap_or_default();
    let hook = async {
        match pre_stop {
            Some(hook) => hooks.run(hook, interior.as_deref()).await,
            None => Ok(()),
        }
    };
    stop::stop(&mut process, &mut orders, order, hook, teller).await
}

/// Waits until it ends by itself.
async fn over(process: &mut Option<Process>, exit: Option<(Duration, i32)>) -> End {
    match (process, exit) {
        (Some(process), _) => End::Exited(process.ended().await),
        (None, Some((after, code))) => {
            tokio::time::sleep(after).await;
            End::Exited(code)
        }
        (None, None) => std::future::pending().await,
    }
}

async fn ordered(orders: &mut Orders) {
    if orders.wait_for(Option::is_some).await.is_err() {
        // The pod's task is gone, and this one is about to be aborted.
        std::future::pending::<()>().await;
    }
}
