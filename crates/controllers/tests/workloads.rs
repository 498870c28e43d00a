//! Deployments, StatefulSets and DaemonSets against the embedded API.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{World, by_node, template, workload};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;

const REVISION: &str = "deployment.kubernetes.io/revision";

/// Waits until a Deployment says that it is done, and returns it.
async fn rolled_out(world: &World, name: &str) -> Deployment {
    world
        .eventually(&format!("rollout of {name}"), async || {
            let deployment = world.api::<Deployment>().get(name).await.unwrap();
            let status = deployment.status.clone()?;
            let done =
                status.conditions?.iter().any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
            let seen = status.observed_generation >= deployment.metadata.generation;
            (done && seen && status.updated_replicas == deployment.spec.replicas).then_some(deployment)
        })
        .await
}

async fn sets_by_revision(world: &World, app: &str) -> BTreeMap<String, (String, i32)> {
    let sets = world.list::<ReplicaSet>(&format!("app={app}")).await;
    let entry =
        |rs: ReplicaSet| (rs.annotations()[REVISION].clone(), (rs.name_any(), rs.spec.replicas.unwrap()));
    sets.into_iter().map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_rolls_back_and_says_so() {
    let world = World::new(3).await;
    world.create::<Deployment>(workload("web", 3, json!({}))).await;
    let pods = world.ready_pods("web", 3).await;
    assert_eq!(by_node(&pods).into_values().collect::<Vec<_>>(), [1, 1, 1]);
    let done = rolled_out(&world, "web").await;
    let status = done.status.unwrap();
    assert_eq!(
        (status.ready_replicas, status.available_replicas, status.unavailable_replicas),
        (Some(3), Some(3), Some(0))
    );
    let available =
        status.conditions.unwrap().into_iter().find(|c| c.type_.as_deref() == Some("Available")).unwrap();
    assert_eq!(available.status.as_deref(), Some("True"));
    let first = sets_by_revision(&world, "web").await;
    let first_name = first["1"].0.clone();

    world.patch::<Deployment>("web", json!({"spec": {"template": template("web", "v2")}})).await;
    world
        .eventually("only new pods", async || {
            let pods = world.pods("web").await;
            (pods.len() == 3
                && pods.iter().all(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("v2")))
            .then_some(())
        })
        .await;
    let done = rolled_out(&world, "web").await;
    assert_eq!(done.annotations()[REVISION], "2");
    let sets = sets_by_revision(&world, "web").await;
    assert_eq!((sets["1"].1, sets["2"].1), (0, 3), "the old set is kept, empty");

    // As `kubectl rollout undo` does.
    world.patch::<Deployment>("web", json!({"spec": {"template": template("web", "v1")}})).await;
    world
        .eventually("the first set again, as revision 3", async || {
            (sets_by_revision(&world, "web").await.get("3") == Some(&(first_name.clone(), 3))).then_some(())
        })
        .await;
    assert_eq!(rolled_out(&world, "web").await.annotations()[REVISION], "3");
    assert_eq!(world.list::<ReplicaSet>("app=web").await.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_and_self_healing_leave_exactly_the_pods_asked_for() {
    let world = World::new(2).await;
    world.create::<Deployment>(workload("web", 2, json!({}))).await;
    world.ready_pods("web", 2).await;
    world.patch::<Deployment>("web", json!({"spec": {"replicas": 20}})).await;
    world.ready_pods("web", 20).await;
    world.patch::<Deployment>("web", json!({"spec": {"replicas": 3}})).await;
    let pods = world.ready_pods("web", 3).await;
    let names: BTreeSet<String> = pods.iter().map(|p| p.name_any()).collect();
    world.api::<Pod>().delete(&pods[0].name_any(), &DeleteParams::default()).await.unwrap();
    world
        .eventually("a replacement", async || {
            let now = world.ready_pods("web", 3).await;
            now.iter().any(|p| !names.contains(&p.name_any())).then_some(())
        })
        .await;
    let made = world.seen.lock().unwrap().iter().filter(|line| line.starts_with('+')).count();
    assert_eq!(made, 21, "2, 18 more and 1 in place of another: none made by mistake");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recreate_ends_all_old_pods_before_it_makes_new_ones() {
    let world = World::new(1).await;
    world.create::<Deployment>(workload("db", 2, json!({"strategy": {"type": "Recreate"}}))).await;
    let old = world.ready_pods("db", 2).await;
    world.patch::<Deployment>("db", json!({"spec": {"template": template("db", "v2")}})).await;
    world
        .eventually("new pods", async || {
            let pods = world.ready_pods("db", 2).await;
            pods.iter()
                .all(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("v2"))
                .then_some(())
        })
        .await;
    let seen = world.seen.lock().unwrap().clone();
    let at = |line: String| seen.iter().position(|s| *s == line).unwrap();
    let last_end = old.iter().map(|p| at(format!("-{}", p.name_any()))).max().unwrap();
    let first_new = seen.iter().enumerate().filter(|(_, s)| s.starts_with('+')).nth(2).unwrap().0;
    assert!(last_end < first_new, "{seen:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_keeps_its_order() {
    let world = World::new(2).await;
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let more = json!({"serviceName": "db", "volumeClaimTemplates": claims});
    world.create::<StatefulSet>(workload("db", 3, more)).await;
    let pods = world.ready_pods("db", 3).await;
    let first = pods[0].spec.as_ref().unwrap();
    assert_eq!((first.hostname.as_deref(), first.subdomain.as_deref()), (Some("db-0"), Some("db")));
    let volume = first.volumes.as_ref().unwrap().iter().find(|v| v.name == "data").unwrap();
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-0");
    assert_eq!(world.list::<PersistentVolumeClaim>("app=db").await.len(), 3);

    world.patch::<StatefulSet>("db", json!({"spec": {"template": template("db", "v2")}})).await;
    world
        .eventually("the new revision everywhere", async || {
            let set = world.api::<StatefulSet>().get("db").await.unwrap();
            let status = set.status?;
            let seen = status.observed_generation == set.metadata.generation;
            let same = seen && status.current_revision == status.update_revision;
            (same && status.updated_replicas == Some(3) && status.ready_replicas == Some(3)).then_some(())
        })
        .await;
    world.patch::<StatefulSet>("db", json!({"spec": {"replicas": 1}})).await;
    world.ready_pods("db", 1).await;
    world
        .eventually("the end of the others", async || {
            (world.list::<Pod>("app=db").await.len() == 1).then_some(())
        })
        .await;
    let updated = ["-db-2", "+db-2", "-db-1", "+db-1", "-db-0", "+db-0"];
    let expected = [&["+db-0", "+db-1", "+db-2"][..], &updated[..], &["-db-2", "-db-1"][..]].concat();
    // The API may know of an end before the kubelet does.
    world
        .eventually("the last end", async || {
            (world.seen.lock().unwrap().len() >= expected.len()).then_some(())
        })
        .await;
    assert_eq!(*world.seen.lock().unwrap(), expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_has_one_pod_on_each_node_that_comes_and_none_on_those_gone() {
    let world = World::new(2).await;
    let mut daemon = workload("agent", 0, json!({}));
    daemon["spec"].as_object_mut().unwrap().remove("replicas");
    world.create::<DaemonSet>(daemon).await;
    world.ready_pods("agent", 2).await;
    world.add_node("node-3").await;
    let pods = world.ready_pods("agent", 3).await;
    assert_eq!(by_node(&pods).into_values().collect::<Vec<_>>(), [1, 1, 1]);
    let api: Api<Node> = Api::all(world.client.clone());
    api.delete("node-1", &DeleteParams::default()).await.unwrap();
    let pods = world.ready_pods("agent", 2).await;
    assert_eq!(by_node(&pods).into_keys().collect::<Vec<_>>(), ["node-2", "node-3"]);

    world.patch::<DaemonSet>("agent", json!({"spec": {"template": template("agent", "v2")}})).await;
    world
        .eventually("the new template everywhere, and nothing elsewhere", async || {
            let status = world.api::<DaemonSet>().get("agent").await.unwrap().status?;
            let done = status.updated_number_scheduled == Some(2) && status.number_available == Some(2);
            (done && (status.desired_number_scheduled, status.number_misscheduled) == (2, 0)).then_some(())
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_workload_deletes_what_it_made() {
    let world = World::new(1).await;
    world.create::<Deployment>(workload("web", 3, json!({}))).await;
    world.ready_pods("web", 3).await;
    world.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    world
        .eventually("nothing", async || {
            let pods = world.list::<Pod>("app=web").await;
            (pods.is_empty() && world.list::<ReplicaSet>("app=web").await.is_empty()).then_some(())
        })
        .await;
    world.stop().await;
}
