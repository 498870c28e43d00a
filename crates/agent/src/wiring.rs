//! ADD and DEL, step by step. Whatever fails, everything is undone: no pod is ever left half wired, and
//! none is open before its rows are in force.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::join;
use kilter_netlink::Netlink;
use kilter_netns::NetNs;
use kilter_wire::cni::{Attachment, CniResult, code};
use tokio::sync::{mpsc, oneshot};

use crate::command::{Claim, Command, Leaving, Refusal, Reserve, chain};
use crate::endpoint::Plan;
use crate::ipam::Reservation;

/// How long an ADD waits for its pod and namespace to be seen before the runtime is told to try again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ADD and DEL work with.
#[derive(Debug)]
pub struct Wiring {
    /// In the node's namespace.
    pub netlink: Netlink,
    /// Of pods' links: as much as the way to other nodes carries.
    pub mtu: u32,
    /// Decides.
    pub engine: mpsc::Sender<Command>,
    /// Deletes links.
    pub reaper: mpsc::UnboundedSender<Leaving>,
    /// One container at a time: a DEL may come while the ADD that the runtime gave up still runs.
    pub locks: Locks,
}

/// An ADD as it was asked for, checked.
#[derive(Debug, Clone)]
pub struct Add {
    /// What to attach.
    pub claim: Claim,
    /// `cniVersion`.
    pub version: String,
}

impl Wiring {
    /// Wires a container.
    pub async fn add(&self, add: &Add) -> Result<CniResult, Refusal> {
        let _alone = self.locks.lock(&add.claim.container).await;
        let namespace = open_namespace(&add.claim.netns)?;
        let reservation = self.reserve(add).await?;
        let wired = self.wire(add, &reservation, &namespace).await;
        if wired.is_err() {
            self.unwire(&add.claim.container).await?;
        }
        wired
    }

    /// Unwires a container, however far it is; fine if there is none.
    pub async fn del(&self, container: &str) -> Result<(), Refusal> {
        let _alone = self.locks.lock(container).await;
        self.unwire(container).await
    }

    /// Unwires every container of a network but these: what the runtime forgot while the plugin was not
    /// called. What fails does not hold up the rest.
    pub async fn collect(&self, network: &str, valid: &[Attachment]) -> Result<(), Refusal> {
        let valid: BTreeSet<_> = valid.iter().map(|a| (a.container_id.as_str(), a.ifname.as_str())).collect();
        let mut failures = Vec::new();
        for stale in self.ask(Command::List).await?.into_iter().filter(|there| {
            there.network == network && !valid.contains(&(there.container.as_str(), there.ifname.as_str()))
        }) {
            tracing::info!(pod = %stale.pod, container = %stale.container, "the runtime does not know it; removed");
            if let Err(refusal) = self.del(&stale.container).await {
                failures.push(format!("{}: {}: {}", stale.container, refusal.msg, refusal.details));
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Refusal::later("not every stale container could be removed", failures.join("; "))),
        }
    }

    async fn wire(
        &self,
        add: &Add,
        reservation: &Reservation,
        namespace: &NetNs,
    ) -> Result<CniResult, Refusal> {
        let Reservation { link, addresses, .. } = reservation;
        let plan = Plan { link, ifname: &add.claim.ifname, addresses, mtu: self.mtu, namespace };
        let failed = |error| {
            Refusal::refused(format!("the link of pod {} cannot be made", add.claim.pod.name), chain(&error))
        };
        let index = plan.create(&self.netlink).await.map_err(failed)?;
        // The pod's side is set up while the engine loads the rows: the host side is down until then.
        let (configured, attached) = join!(plan.configure_pod(), self.attach(&add.claim.container, index));
        attached?;
        configured.map_err(failed)?;
        plan.open(&self.netlink, index).await.map_err(failed)?;
        Ok(plan.result(&add.version, &add.claim.netns))
    }

    async fn reserve(&self, add: &Add) -> Result<Reservation, Refusal> {
        let reserve = |reply| Command::Reserve(Reserve { claim: add.claim.clone(), reply });
        match tokio::time::timeout(PATIENCE, self.ask(reserve)).await {
            Ok(answer) => answer?,
            Err(_) => {
                let why = self.ask(|reply| Command::Explain(add.claim.pod.clone(), reply)).await?;
                let msg = format!("policy for pod {} cannot be judged yet", add.claim.pod.name);
                Err(Refusal::later(msg, format!("{why}; waited {}s", PATIENCE.as_secs())))
            }
        }
    }

    async fn attach(&self, container: &str, link: u32) -> Result<(), Refusal> {
        self.ask(|reply| Command::Attach(container.to_owned(), link, reply)).await?
    }

    async fn unwire(&self, container: &str) -> Result<(), Refusal> {
        let left = self.ask(|reply| Command::Detach(container.to_owned(), reply)).await??;
        if let Some(leaving) = left {
            // The reaper ends only with the process; what it does not get to, the next one does.
            let _ = self.reaper.send(leaving);
        }
        Ok(())
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Refusal::later("the agent is stopping", "");
        self.engine.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// The namespace that `CNI_NETNS` names.
pub fn open_namespace(netns: &str) -> Result<NetNs, Refusal> {
    NetNs::open(netns).map_err(|error| Refusal {
        code: code::INVALID_ENVIRONMENT,
        msg: format!("CNI_NETNS {netns} cannot be opened"),
        details: chain(&error),
    })
}

/// A lock for each container that somebody works on.
#[derive(Debug, Default)]
pub struct Locks {
    busy: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// Held while a container is worked on.
#[derive(Debug)]
pub struct Alone {
    busy: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    container: String,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Locks {
    pub(crate) async fn lock(&self, container: &str) -> Alone {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(busy.entry(container.to_owned()).or_default())
        };
        let guard = Some(lock.lock_owned().await);
        Alone { busy: Arc::clone(&self.busy), container: container.to_owned(), guard }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.guard = None;
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits holds a clone; the last one out clears the entry.
        if busy.get(&self.container).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            busy.remove(&self.container);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_container_at_a_time_and_nothing_is_kept() {
        let locks = Locks::default();
        let first = locks.lock("a").await;
        let other = locks.lock("b").await;
        let mut second = std::pin::pin!(locks.lock("a"));
        assert!(futures::poll!(&mut second).is_pending());
        drop((first, other));
        drop(second.await);
        assert!(locks.busy.lock().unwrap().is_empty());
    }
}
