use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kilter_cluster::Severity;
use kube::ResourceExt;
use tokio::time::Instant;

use super::Shared;
use super::discard::{self, attachment};
use super::worker::{Running, Worker};
use crate::config::BuiltinPod;
use crate::container::{self, new_id};
use crate::hostports;
use crate::run::Runs;
use crate::sandbox::{Files, Launch, Process, Record, Sandbox, launch, sysctls};
use crate::standin::Identity;

/// Between attempts when the plugin asks for one soon: grows from the first to the second.
const SOON: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Between attempts after other failures.
const LATER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// "Try again later" is no news until it has been said this often.
const PATIENCE: u32 = 4;
/// Status waits this long for the first probes, which mostly succeed at once: one write, not two.
const FIRST_PROBES: Duration = Duration::from_millis(30);

impl Worker {
    /// One attempt to bring up sandbox and network; says when the next is due if it fails.
    pub(super) async fn set_up(&mut self) {
        let Err(error) = self.try_set_up().await else {
            self.failed_setups = 0;
            self.due.setup = None;
            self.tell_conflicts();
            self.due.publish = Some(Instant::now() + FIRST_PROBES);
            return;
        };
        self.failed_setups += 1;
        let soon = error.downcast_ref::<crate::cni::Error>().is_some_and(crate::cni::Error::try_again);
        if !soon || self.failed_setups >= PATIENCE {
            let message = format!("Failed to create pod sandbox: {error:#}");
            tracing::warn!(pod = %self.title(), message);
            self.event(Severity::Warning, "FailedCreatePodSandBox", message);
        }
        // After a plain refusal nothing is half done, and the same namespaces will do.
        if !soon && let Some(sandbox) = self.unwired.take() {
            self.remove(&sandbox.record, Some(&sandbox.process)).await;
        }
        let (first, limit) = if soon { SOON } else { LATER };
        let delay = first.saturating_mul(1 << (self.failed_setups - 1).min(10)).min(limit);
        self.due.setup = Some(Instant::now() + delay);
    }

    /// Says which ports of the node another pod claims too.
    fn tell_conflicts(&self) {
        for other in self.shared.registry.all() {
            if other.pod.metadata.uid.as_deref() == Some(&self.uid) || other.sandbox.is_none() {
                continue;
            }
            for conflict in hostports::conflicts(&self.pod, &other.pod) {
                self.event(Severity::Warning, "HostPortConflict", conflict);
            }
        }
    }

    async fn try_set_up(&mut self) -> anyhow::Result<()> {
        let (sandbox, same) = self.sandbox().await?;
        // Kept where deletion finds it, whatever happens here.
        let sandbox = self.unwired.insert(sandbox);
        if sandbox.record.addresses.is_empty() {
            let _permit = self.shared.wiring.acquire().await?;
            wire(&self.shared, sandbox).await?;
        }
        let Some(sandbox) = self.unwired.take() else {
            anyhow::bail!("BUG: the sandbox is not where it was put")
        };
        match self.prepare(&sandbox).await {
            Ok((server, builtin)) => {
                self.containers = container::containers(&self.pod, same);
                self.running = Some(Running {
                    addresses: sandbox.record.addresses.clone(),
                    hostname: self.hostname(),
                    sandbox,
                    server,
                    builtin,
                    probes: HashMap::new(),
                    lives: HashMap::new(),
                });
                Ok(())
            }
            Err(error) => {
                self.unwired = Some(sandbox);
                Err(error)
            }
        }
    }

    /// The sandbox to use, and whether it is the one that the containers ran in all the while.
    async fn sandbox(&mut self) -> anyhow::Result<(Sandbox, bool)> {
        if let Some(sandbox) = self.unwired.take() {
            return Ok((sandbox, false));
        }
        if let Some(record) = self.record.take() {
            let process =
                Process::adopt(record.pid, record.start_time).context("look at the pause process")?;
            match process {
                Some(process) if !record.addresses.is_empty() => {
                    return Ok((Sandbox { record, process }, true));
                }
                process => discard::remove(&self.shared, &record, process.as_ref(), |_| {}).await,
            }
        }
        Ok((self.launch().await?, false))
    }

    async fn launch(&self) -> anyhow::Result<Sandbox> {
        let _permit = self.shared.starting.acquire().await?;
        let shared = self.shared.clone();
        let hostname = self.hostname();
        let host_network = self.spec().host_network == Some(true);
        let sysctls = sysctls(self.spec()).unwrap_or_default();
        let title = format!("{}/{}", self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let started = tokio::task::spawn_blocking(move || {
            launch(Launch {
                program: &shared.config.pause,
                state_dir: shared.records.root(),
                title: &title,
                hostname: &hostname,
                host_network,
                sysctls: &sysctls,
            })
        });
        let process = started.await??;
        let record = Record {
            uid: self.uid.to_string(),
            namespace: self.pod.namespace().unwrap_or_default(),
            name: self.pod.name_any(),
            sandbox_id: new_id(),
            pid: process.pid(),
            start_time: process.start_time(),
            host_network,
            addresses: Vec::new(),
            cni_result: None,
        };
        if let Err(error) = self.shared.records.save(&record) {
            let _ = process.kill().await;
            return Err(error).context("record the sandbox");
        }
        Ok(Sandbox { record, process })
    }

    /// The pod's files and the servers on its ports, none of which listens yet.
    async fn prepare(
        &self,
        sandbox: &Sandbox,
    ) -> anyhow::Result<(crate::standin::PodServer, Option<crate::config::Stop>)> {
        let config = &self.shared.config;
        let record = &sandbox.record;
        let files = Files::at(self.shared.records.dir(&self.uid));
        files
            .write(self.spec(), &record.namespace, &self.hostname(), &record.addresses, &config.dns)
            .context("write the pod's files")?;
        let identity = Identity {
            uid: self.uid.clone(),
            namespace: record.namespace.as_str().into(),
            name: record.name.as_str().into(),
            node: config.node.as_str().into(),
            addresses: record.addresses.clone(),
        };
        let server = self.shared.stand_ins.pod(identity, sandbox.netns(), self.behaviour())?;
        Ok((server, self.start_builtin(sandbox).await?))
    }

    async fn start_builtin(&self, sandbox: &Sandbox) -> anyhow::Result<Option<crate::config::Stop>> {
        let runs = Runs::of(&self.pod);
        let Some(run) = runs.builtin() else { return Ok(None) };
        let hook = self.shared.config.builtin.as_ref().filter(|hook| hook.name() == run);
        let hook = hook.with_context(|| {
            format!("annotation kilter.dev/run: {run:?} means nothing; what does: process, stand-in")
        })?;
        let pod = BuiltinPod {
            uid: Arc::clone(&self.uid),
            namespace: sandbox.record.namespace.clone(),
            name: sandbox.record.name.clone(),
            netns: sandbox.netns(),
            addresses: sandbox.record.addresses.clone(),
        };
        Ok(Some(hook.start(pod).await.with_context(|| format!("start the node's own {run}"))?))
    }

    /// `spec.hostname`, or the pod's name as far as the kernel takes it (63 bytes).
    fn hostname(&self) -> String {
        let mut name = self.spec().hostname.clone().unwrap_or_else(|| self.pod.name_any());
        name.truncate(name.floor_char_boundary(63));
        name.trim_end_matches(['-', '.']).to_owned()
    }
}

/// Gives a sandbox its network and records what it got.
async fn wire(shared: &Shared, sandbox: &mut Sandbox) -> anyhow::Result<()> {
    if sandbox.record.host_network {
        sandbox.record.addresses = shared.config.node_ips.clone();
    } else {
        let netns = sandbox.netns();
        let added = shared.cni.add(attachment(&sandbox.record, Some(&netns))).await?;
        anyhow::ensure!(!added.addresses.is_empty(), "the CNI plugin gave the pod no address");
        sandbox.record.addresses = added.addresses;
        sandbox.record.cni_result = Some(added.result);
    }
    shared.records.save(&sandbox.record).context("record the sandbox's addresses")
}
