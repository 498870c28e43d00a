//! Nodes that fall silent, and speak again.

mod common;

use std::time::Duration;

use common::{World, is_ready, workload};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kilter_cluster::patch_node_status;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

/// One heartbeat of a node.
async fn beat(world: &World, name: &str) {
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%fZ").to_string();
    let ready = json!({"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now}]});
    patch_node_status(&world.client, name, &serde_json::from_value(ready).unwrap()).await.unwrap();
}

/// A sign of life of another kind: the Lease is renewed, the status stays.
async fn renew(world: &World, name: &str) {
    let leases = Api::<Lease>::namespaced(world.client.clone(), "kube-node-lease");
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name}, "spec": {"holderIdentity": name, "renewTime": now}});
    leases.patch(name, &PatchParams::apply("test"), &Patch::Apply(lease)).await.unwrap();
}

async fn status(world: &World, name: &str) -> Option<String> {
    let node = Api::<Node>::all(world.client.clone()).get(name).await.ok()?;
    let conditions = node.status?.conditions?;
    conditions.into_iter().find(|c| c.type_ == "Ready").map(|c| c.status)
}

/// How many endpoints of the Service `web` are ready.
async fn ready_endpoints(world: &World) -> usize {
    let slices = world.list::<EndpointSlice>("kubernetes.io/service-name=web").await;
    let endpoints = slices.into_iter().flat_map(|s| s.endpoints.unwrap_or_default());
    endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_given_up_until_it_speaks_again() {
    let world = World::with_grace(2, Duration::from_secs(6)).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    world.create::<Service>(service).await;
    world.create::<Deployment>(workload("web", 4, json!({}))).await;
    world.ready_pods("web", 4).await;
    let on_first = |pods: &[Pod]| pods.iter().filter(|p| p.spec.as_ref().unwrap().node_name.as_deref() == Some("node-1")).count();
    let there = on_first(&world.pods("web").await);
    assert!(there > 0 && there < 4);
    // One node goes on speaking, the other does not.
    world
        .eventually("the silent node is given up", async || {
            renew(&world, "node-2").await;
            let pods = world.pods("web").await;
            let dead: Vec<Pod> = pods.iter().filter(|p| !is_ready(p)).cloned().collect();
            let given_up = status(&world, "node-1").await.as_deref() == Some("Unknown");
            (given_up && dead.len() == there && on_first(&dead) == there && ready_endpoints(&world).await == 4 - there)
                .then_some(())
        })
        .await;
    assert_eq!(status(&world, "node-2").await.as_deref(), Some("True"));
    beat(&world, "node-1").await;
    world
        .eventually("it is back", async || {
            renew(&world, "node-2").await;
            let ready = world.pods("web").await.iter().filter(|p| is_ready(p)).count();
            (ready == 4 && ready_endpoints(&world).await == 4).then_some(())
        })
        .await;
    assert_eq!(status(&world, "node-1").await.as_deref(), Some("True"));
    let names: Vec<_> = world.pods("web").await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names.len(), 4, "nobody was evicted");
    world.stop().await;
}
