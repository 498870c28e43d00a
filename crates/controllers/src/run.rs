use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ipnet::IpNet;
use kilter_model::Routing;
use kube::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::Key;
use crate::context::Context;
use crate::queue::Queue;
use crate::{
    Error, addresses, cronjob, daemonset, deployment, endpoints, job, loadbalancer, nodelifecycle, orphans, replicaset, scheduler,
    statefulset,
};

/// Objects of one controller being worked on at once.
const PARALLEL: usize = 32;

/// What [`run`] needs besides a client.
#[derive(Debug, Clone)]
pub struct Config {
    /// Ends [`run`] when cancelled.
    pub stop: CancellationToken,
    /// How long a node may be silent before it is given up (kube-controller-manager
    /// `--node-monitor-grace-period`).
    pub node_grace: Duration,
    /// Where Services of type LoadBalancer get their addresses from; empty: such Services are somebody else's.
    pub load_balancers: Vec<IpNet>,
    /// How nodes reach each other's pods, which some annotations rest on.
    pub routing: Routing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stop: CancellationToken::default(),
            node_grace: Duration::from_secs(40),
            load_balancers: Vec::new(),
            routing: Routing::default(),
        }
    }
}

/// Brings one kind of object closer to what it should be.
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// For logs.
    const NAME: &'static str;

    /// Looks at one object and does what can be done now. `Some(delay)`: look again then even if
    /// nothing happens, since time is part of the condition.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Runs all controllers until `config.stop` is cancelled; what they are in the middle of is
/// finished first. Dropping the future ends them at once, which harms nothing: whoever runs next
/// looks at what is there. Errors of single objects are logged and tried again.
pub fn run(client: Client, config: Config) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(run_all(client, config))
}

async fn run_all(client: Client, config: Config) -> Result<(), Error> {
    let context = Context::new(client);
    let mut watches = JoinSet::new();
    let mut work = JoinSet::new();
    let stop = &config.stop;
    // All handlers are in place before any watch starts.
    spawn(&mut work, stop, &context, deployment::new(&context));
    spawn(&mut work, stop, &context, replicaset::new(&context));
    spawn(&mut work, stop, &context, statefulset::new(&context));
    spawn(&mut work, stop, &context, daemonset::new(&context));
    spawn(&mut work, stop, &context, job::new(&context));
    spawn(&mut work, stop, &context, cronjob::new(&context));
    spawn(&mut work, stop, &context, nodelifecycle::new(&context, config.node_grace));
    spawn(&mut work, stop, &context, endpoints::new(&context));
    spawn(&mut work, stop, &context, scheduler::new(&context));
    spawn(&mut work, stop, &context, orphans::new(&context));
    spawn(&mut work, stop, &context, addresses::new(&context, config.routing));
    if !config.load_balancers.is_empty() {
        spawn(&mut work, stop, &context, loadbalancer::new(&context, &config.load_balancers));
    }
    context.watch(&mut watches);
    let ended = tokio::select! {
        Some(ended) = watches.join_next() => ended,
        Some(ended) = work.join_next() => ended,
    };
    // Watches go on for ever, work until it is told to stop.
    if !stop.is_cancelled() {
        return Err(Error::Stopped(ended.err()));
    }
    while work.join_next().await.is_some() {}
    watches.shutdown().await;
    Ok(())
}

fn spawn<R: Reconcile>(
    work: &mut JoinSet<()>,
    stop: &CancellationToken,
    context: &Context,
    (reconciler, queue): (R, Arc<Queue>),
) {
    let (stop, context) = (stop.clone(), context.clone());
    work.spawn(async move {
        let synced = stop.run_until_cancelled(context.synced()).await;
        if synced.is_some() {
            work_off(Arc::new(reconciler), queue, stop).await;
        }
    });
}

/// Looks at what the queue hands out, until told to stop; then waits for what was begun.
async fn work_off<R: Reconcile>(reconciler: Arc<R>, queue: Arc<Queue>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(PARALLEL));
    let mut workers = JoinSet::new();
    loop {
        while workers.try_join_next().is_some() {}
        // The semaphore is never closed.
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let Some(key) = stop.run_until_cancelled(queue.take()).await else { break };
        let (reconciler, queue) = (reconciler.clone(), queue.clone());
        workers.spawn(async move {
            look(&*reconciler, &queue, key).await;
            drop(slot);
        });
    }
    while workers.join_next().await.is_some() {}
}

/// One look at one object.
async fn look<R: Reconcile>(reconciler: &R, queue: &Queue, key: Key) {
    let mut taken = Taken { queue, key, done: false };
    let result = reconciler.reconcile(&taken.key).await;
    taken.done = true;
    match result {
        Ok(again) => queue.succeeded(&taken.key, again),
        Err(error) => {
            let (key, delay) = (&taken.key, queue.failed(&taken.key));
            if error.is_stale() {
                tracing::debug!(controller = R::NAME, %key, %error, ?delay, "overtaken; looking again");
            } else {
                tracing::warn!(controller = R::NAME, %key, error = report(&error), ?delay, "trying again");
            }
        }
    }
}

/// A key handed out. Should the look at it panic, it goes back for another try all the same.
struct Taken<'a> {
    queue: &'a Queue,
    key: Key,
    done: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.queue.failed(&self.key);
        }
    }
}

/// An error with its causes, in a line.
fn report(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
