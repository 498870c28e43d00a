use std::time::Duration;

use kilter_cluster::Severity;
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::worker::{Running, Worker, sandbox_ended};
use super::{Command, discard};
use crate::container::{Container, End};
use crate::sandbox::Sandbox;

impl Worker {
    /// Ends a pod that is being deleted, in the order that leaves nothing behind, and tells the
    /// API so.
    pub(super) async fn delete(&mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        if self.running.is_some() {
            for container in self.containers.iter().filter(|container| container.is_running()) {
                self.event(Severity::Normal, "Killing", format!("Stopping container {}", container.name));
            }
            self.wind_down(&mut inbox).await;
            if self.containers.iter().any(|container| container.real) {
                self.publish_status().await;
            }
        }
        self.release().await;
        self.shared.registry.remove(&self.uid);
        self.confirm().await;
    }

    /// Has all containers end in order. Stand-ins serve a little longer, so that endpoints leave
    /// their Services meanwhile; readiness is probed and told on.
    async fn wind_down(&mut self, inbox: &mut mpsc::UnboundedReceiver<Command>) {
        let mut grace = self.grace();
        self.stop_all(grace, self.shared.config.shutdown);
        while self.running.as_ref().is_some_and(|running| !running.lives.is_empty()) {
            self.update_probes();
            self.publish_entry();
            let ready = |worker: &Self| worker.containers.iter().map(Container::is_ready).collect::<Vec<_>>();
            let before = ready(self);
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Update(pod)) => self.take(pod),
                    Some(Command::Gone) | None => return,
                },
                Some(seen) = self.seen.recv() => {
                    self.on_seen(seen);
                    if ready(self) != before {
                        self.publish_status().await;
                    }
                }
                Some(report) = self.happened.recv() => self.on_report(report),
                () = sandbox_ended(&self.running) => return,
            }
            if self.grace() < grace {
                grace = self.grace();
                self.stop_all(grace, self.shared.config.shutdown);
            }
        }
    }

    /// Gives back everything that this machine holds of the pod: ports first, since an open socket
    /// keeps the namespace; then the network; then the namespaces.
    pub(super) async fn release(&mut self) {
        if let Some(Running { sandbox, server, builtin, probes, lives, .. }) = self.running.take() {
            drop(probes);
            drop(lives);
            self.cgroup().kill().await;
            server.close().await;
            if let Some(stop) = builtin {
                stop.stop().await;
            }
            for container in &mut self.containers {
                container.end(&End::Stopped);
            }
            self.unwired = Some(sandbox);
        }
        if let Some(Sandbox { record, process }) = self.unwired.take() {
            self.remove(&record, Some(&process)).await;
        }
        if let Some(record) = self.record.take() {
            discard::discard(&self.shared, record).await;
        }
    }

    /// Unwires and ends a sandbox; until that succeeds, events say why it does not.
    pub(super) async fn remove(
        &self,
        record: &crate::sandbox::Record,
        process: Option<&crate::sandbox::Process>,
    ) {
        discard::remove(&self.shared, record, process, |error| {
            let message = format!("error killing pod: {}", crate::error_chain(error));
            tracing::warn!(pod = %self.title(), message);
            self.event(Severity::Warning, "FailedKillPod", message);
        })
        .await;
    }

    /// The pause process ended though nobody ended it: everything is made anew.
    pub(super) async fn sandbox_vanished(&mut self) {
        let message = "Pod sandbox changed, it will be killed and re-created.";
        self.event(Severity::Normal, "SandboxChanged", message);
        if let Some(running) = &mut self.running {
            for container in &mut self.containers {
                container.end(&End::SandboxGone);
            }
            running.probes.clear();
            running.lives.clear();
        }
        self.release().await;
        // So that the status that the new containers are made from counts this as a restart.
        self.publish_status().await;
    }

    async fn confirm(&self) {
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let mut backoff = kilter_cluster::Backoff::default();
        let client = &self.shared.config.client;
        while let Err(error) = kilter_cluster::confirm_deleted(client, &namespace, &name, &self.uid).await {
            tracing::warn!(pod = %self.title(), %error, "tell the API that the pod has ended; trying again");
            tokio::time::sleep(backoff.next().unwrap_or(Duration::from_secs(5))).await;
        }
    }
}
