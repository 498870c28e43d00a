use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kilter_cluster::Severity;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::worker::Worker;
use crate::registry::{ContainerView, Entry, View};
use crate::status::{Facts, pod_status};

/// A status that could not be written is tried again after this.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

impl Worker {
    /// Tells the kubelet API and the probes of `verify` how the pod is.
    pub(super) fn publish_entry(&self) {
        let sandbox = self.running.as_ref().map(|running| View {
            pid: running.sandbox.process.pid(),
            netns: running.sandbox.netns(),
            addresses: running.addresses.clone(),
            dir: self.shared.records.dir(&self.uid),
            hostname: running.hostname.clone(),
        });
        let containers = self.containers.iter().map(|container| ContainerView {
            declared: container.declared.clone(),
            running: container.is_running(),
            interior: container.interior.clone(),
            log: container.log.clone(),
            previous_log: container.previous_log.clone(),
        });
        let listening = self.running.iter().flat_map(|running| running.server.ports());
        let entry = Entry {
            pod: self.pod.clone(),
            sandbox,
            containers: containers.collect(),
            listening: listening.map(|port| (port.protocol, port.number)).collect(),
        };
        self.shared.registry.set(self.uid.clone(), entry);
    }

    /// Writes the pod's status if it is not what was written last.
    pub(super) async fn publish_status(&mut self) {
        if self.first_probes_pending() {
            return;
        }
        self.due.publish = None;
        let status = pod_status(&Facts {
            pod: &self.pod,
            node_ips: &self.shared.config.node_ips,
            addresses: self.running.as_ref().map_or(&[], |running| &running.addresses),
            sandbox: self.running.is_some(),
            containers: &self.containers,
            started: self.first_seen,
            now: Timestamp::now(),
        });
        if self.written.as_ref() == Some(&status) {
            return;
        }
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let client = &self.shared.config.client;
        match kilter_cluster::patch_pod_status(client, &namespace, &name, &self.uid, &status).await {
            Ok(pod) => {
                self.written = Some(status);
                self.take(Arc::new(pod));
            }
            // It is gone, or another of its name is there: the watch will say so.
            Err(error) if error.is_not_found() => self.written = Some(status),
            Err(error) => {
                tracing::warn!(pod = %self.title(), %error, "update the pod's status; trying again");
                self.due.publish = Some(Instant::now() + WRITE_AGAIN);
            }
        }
    }

    /// Whether it is worth to wait a moment for the first probes' results.
    fn first_probes_pending(&self) -> bool {
        let waiting = self.due.publish.is_some_and(|at| at > Instant::now());
        waiting && self.containers.iter().any(|container| container.is_running() && !container.is_ready())
    }

    /// Refuses to run a pod at all: it has failed before it began.
    pub(super) async fn reject(&mut self, reason: &'static str, why: &str) {
        self.event(Severity::Warning, reason, why.to_owned());
        let status = PodStatus {
            phase: Some("Failed".into()),
            reason: Some(reason.into()),
            message: Some(format!("Pod was rejected: {why}")),
            start_time: Some(Time(self.first_seen)),
            ..Default::default()
        };
        self.finished = true;
        self.publish_entry();
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let client = &self.shared.config.client;
        let mut backoff = kilter_cluster::Backoff::default();
        while let Err(error) =
            kilter_cluster::patch_pod_status(client, &namespace, &name, &self.uid, &status).await
        {
            if error.is_not_found() {
                return;
            }
            tracing::warn!(pod = %self.title(), %error, "tell the API that the pod is rejected; trying again");
            tokio::time::sleep(backoff.next().unwrap_or(WRITE_AGAIN)).await;
        }
    }
}
