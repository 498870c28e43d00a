//! Jobs and CronJobs, with a kubelet that ends pods as a test says.

mod common;

use std::collections::BTreeSet;

use common::World;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kilter_cluster::patch_pod_status;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

const MARK: &str = "batch.kubernetes.io/job-tracking";

fn job(name: &str, mut spec: Value) -> Value {
    spec["template"] = json!({"metadata": {"labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work"}]}});
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Ends a pod as its kubelet would.
async fn end(world: &World, pod: &Pod, phase: &str) {
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "main", "ready": false, "restartCount": 0, "image": "work", "imageID": "",
            "state": {"terminated": {"exitCode": i32::from(phase == "Failed"), "finishedAt": now}}}]});
    patch_pod_status(&world.client, "default", &pod.name_any(), &pod.uid().unwrap(), &serde_json::from_value(status).unwrap()).await.unwrap();
}

async fn running(world: &World, app: &str, count: usize) -> Vec<Pod> {
    let what = format!("{count} running pods of {app}");
    world
        .eventually(&what, async || {
            let mut pods = world.pods(app).await;
            pods.retain(|p| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"));
            (pods.len() == count).then_some(pods)
        })
        .await
}

async fn condition(world: &World, name: &str, kind: &str) -> Job {
    world
        .eventually(&format!("{name} is {kind}"), async || {
            let job = world.api::<Job>().get(name).await.ok()?;
            let conditions = job.status.as_ref()?.conditions.clone()?;
            conditions.iter().any(|c| c.type_ == kind && c.status == "True").then_some(job)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_as_many_pods_as_it_needs_and_counts_each_once() {
    let world = World::new(2).await;
    let made = world.create::<Job>(job("sum", json!({"completions": 4, "parallelism": 2}))).await;
    let selector = made.spec.and_then(|s| s.selector).and_then(|s| s.match_labels).expect("a selector");
    assert_eq!(selector.get("batch.kubernetes.io/controller-uid"), made.metadata.uid.as_ref());
    for round in 0..2 {
        let pods = running(&world, "sum", 2).await;
        for pod in &pods {
            assert_eq!(pod.labels().get("job-name").map(String::as_str), Some("sum"));
            assert!(pod.finalizers().contains(&MARK.to_owned()));
            end(&world, pod, "Succeeded").await;
            // Also when it is deleted before anybody has counted it.
            if round == 0 {
                world.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
            }
        }
    }
    let done = condition(&world, "sum", "Complete").await.status.unwrap();
    assert_eq!((done.succeeded, done.failed, done.active), (Some(4), None, Some(0)));
    assert!(done.completion_time.is_some() && done.start_time.is_some());
    world
        .eventually("pods let go", async || {
            let pods = world.list::<Pod>("app=sum").await;
            pods.iter().all(|p| p.finalizers().is_empty()).then_some(())
        })
        .await;
    // With the Job go its pods.
    world.api::<Job>().delete("sum", &DeleteParams::background()).await.unwrap();
    world.eventually("no pods", async || world.list::<Pod>("app=sum").await.is_empty().then_some(())).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_up_to_the_limit_end_a_job_and_time_takes_it_away() {
    let world = World::new(1).await;
    let spec = json!({"backoffLimit": 0, "ttlSecondsAfterFinished": 4, "parallelism": 2, "completions": 2});
    world.create::<Job>(job("broken", spec)).await;
    let pods = running(&world, "broken", 2).await;
    end(&world, &pods[0], "Failed").await;
    let failed = condition(&world, "broken", "Failed").await;
    let conditions = failed.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|c| c.reason.as_deref() == Some("BackoffLimitExceeded")), "{conditions:?}");
    world
        .eventually("the other pod is ended", async || {
            let pod = world.api::<Pod>().get_opt(&pods[1].name_any()).await.unwrap();
            pod.is_none_or(|p| p.metadata.deletion_timestamp.is_some()).then_some(())
        })
        .await;
    world
        .eventually("the Job is gone", async || world.api::<Job>().get_opt("broken").await.unwrap().is_none().then_some(()))
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_ends_pods_and_deadlines_end_jobs() {
    let world = World::new(1).await;
    world.create::<Job>(job("later", json!({"suspend": true, "activeDeadlineSeconds": 4}))).await;
    let suspended = condition(&world, "later", "Suspended").await;
    assert!(suspended.status.unwrap().start_time.is_none());
    assert!(world.pods("later").await.is_empty());
    world.patch::<Job>("later", json!({"spec": {"suspend": false}})).await;
    running(&world, "later", 1).await;
    let ended = condition(&world, "later", "Failed").await.status.unwrap();
    let reasons: Vec<_> = ended.conditions.unwrap().into_iter().filter_map(|c| c.reason).collect();
    assert!(reasons.contains(&"DeadlineExceeded".to_owned()), "{reasons:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexed_job_completes_each_index() {
    let world = World::new(1).await;
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    world.create::<Job>(job("parts", spec)).await;
    let pods = running(&world, "parts", 3).await;
    let indexes: BTreeSet<_> = pods.iter().filter_map(|p| p.spec.as_ref()?.hostname.clone()).collect();
    assert_eq!(indexes, ["parts-0", "parts-1", "parts-2"].map(str::to_owned).into());
    for pod in &pods {
        end(&world, pod, "Succeeded").await;
    }
    let done = condition(&world, "parts", "Complete").await.status.unwrap();
    assert_eq!((done.completed_indexes.as_deref(), done.succeeded), (Some("0-2"), Some(3)));
    world.stop().await;
}

fn cron(name: &str, policy: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"schedule": "@every 1s", "concurrencyPolicy": policy,
        "successfulJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work"}]}}}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_makes_jobs_when_they_are_due() {
    let world = World::new(1).await;
    world.create::<CronJob>(cron("tick", "Forbid")).await;
    let first = running(&world, "tick", 1).await;
    let noted = world
        .eventually("it is noted", async || {
            let status = world.api::<CronJob>().get("tick").await.ok()?.status?;
            status.active.clone().filter(|a| a.len() == 1).map(|_| status)
        })
        .await;
    assert!(noted.last_schedule_time.is_some());
    end(&world, &first[0], "Succeeded").await;
    world
        .eventually("the success is noted", async || {
            world.api::<CronJob>().get("tick").await.ok()?.status?.last_successful_time
        })
        .await;
    world.patch::<CronJob>("tick", json!({"spec": {"suspend": true}})).await;
    world.api::<CronJob>().delete("tick", &DeleteParams::foreground()).await.unwrap();
    world.eventually("no jobs", async || world.list::<Job>("").await.is_empty().then_some(())).await;
    world.stop().await;
}
