//! Endpoint slices that the benchmark writes, and nobody else changes.

use std::net::IpAddr;

use anyhow::{Context, Result};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kilter_cluster::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::manifests::moving_name;
use crate::datapath::PORT;
use crate::kilter::NAMESPACE;

/// The slices of the moving Services.
#[derive(Clone)]
pub(super) struct Slices {
    api: Api<EndpointSlice>,
}

impl Slices {
    pub(super) fn of(client: Client) -> Self {
        Self { api: Api::namespaced(client, NAMESPACE) }
    }

    /// Makes the slice of a moving Service.
    pub(super) async fn create(&self, number: usize, backend: IpAddr) -> Result<()> {
        let name = moving_name(number);
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": endpoints(backend),
            "ports": [{"port": PORT, "protocol": "TCP"}],
        });
        let slice = serde_json::from_value(slice).context("BUG: the slice is malformed")?;
        let made = self.api.create(&PostParams::default(), &slice).await;
        made.map(drop).with_context(|| format!("create endpoint slice {name}"))
    }

    /// Lets a moving Service lead to another pod; returns when the API has taken it.
    pub(super) async fn lead(&self, number: usize, backend: IpAddr) -> Result<()> {
        let name = moving_name(number);
        let patch = Patch::Merge(json!({"endpoints": endpoints(backend)}));
        let patched = self.api.patch(&name, &PatchParams::default(), &patch).await;
        patched.map(drop).with_context(|| format!("change endpoint slice {name}"))
    }
}

fn endpoints(backend: IpAddr) -> Value {
    json!([{"addresses": [backend], "conditions": {"ready": true, "serving": true, "terminating": false}}])
}
