use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use tokio::task::JoinSet;

use crate::cache::Cache;

/// What all controllers share: the client, and one watch of each kind.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) deployments: Cache<Deployment>,
    pub(crate) replica_sets: Cache<ReplicaSet>,
    pub(crate) stateful_sets: Cache<StatefulSet>,
    pub(crate) daemon_sets: Cache<DaemonSet>,
    pub(crate) jobs: Cache<Job>,
    pub(crate) cron_jobs: Cache<CronJob>,
    pub(crate) revisions: Cache<ControllerRevision>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) nodes: Cache<Node>,
    pub(crate) leases: Cache<Lease>,
    pub(crate) services: Cache<Service>,
    pub(crate) slices: Cache<EndpointSlice>,
}

impl Context {
    /// Empty caches over a client.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            deployments: Cache::default(),
            replica_sets: Cache::default(),
            stateful_sets: Cache::default(),
            daemon_sets: Cache::default(),
            jobs: Cache::default(),
            cron_jobs: Cache::default(),
            revisions: Cache::default(),
            pods: Cache::default(),
            nodes: Cache::default(),
            leases: Cache::default(),
            services: Cache::default(),
            slices: Cache::default(),
        }
    }

    /// Starts the watches. Handlers must be in place.
    pub(crate) fn watch(&self, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.deployments.clone().run(self.client.clone()));
        tasks.spawn(self.replica_sets.clone().run(self.client.clone()));
        tasks.spawn(self.stateful_sets.clone().run(self.client.clone()));
        tasks.spawn(self.daemon_sets.clone().run(self.client.clone()));
        tasks.spawn(self.jobs.clone().run(self.client.clone()));
        tasks.spawn(self.cron_jobs.clone().run(self.client.clone()));
        tasks.spawn(self.revisions.clone().run(self.client.clone()));
        tasks.spawn(self.pods.clone().run(self.client.clone()));
        tasks.spawn(self.nodes.clone().run(self.client.clone()));
        tasks.spawn(self.leases.clone().run(self.client.clone()));
        tasks.spawn(self.services.clone().run(self.client.clone()));
        tasks.spawn(self.slices.clone().run(self.client.clone()));
    }

    /// Waits until every kind is known: who counts what exists must not begin before.
    pub(crate) async fn synced(&self) {
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
        self.daemon_sets.synced().await;
        self.jobs.synced().await;
        self.cron_jobs.synced().await;
        self.revisions.synced().await;
        self.pods.synced().await;
        self.nodes.synced().await;
        self.leases.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
    }
}
