//! `kubectl`, the independent reader of what the controllers write. `KUBECTL` names it where it is
//! not on the path.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{World, workload};
use serde_json::{Value, json};

/// Runs kubectl and returns its output; panics with it when it fails.
async fn kubectl(world: &World, args: &[&str], input: Option<Value>) -> String {
    let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
    let mut command = Command::new(&program);
    command.arg("--kubeconfig").arg(world.seed.kubeconfig.path()).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("run {program} (make installs it): {error}"));
        child.stdin.take().unwrap().write_all(input.unwrap_or_default().to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn manifest(kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = "apps/v1".into();
    object["kind"] = kind.into();
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_can_be_followed_listed_and_undone() {
    let world = World::new(2).await;
    let run = async |args: &[&str]| kubectl(&world, args, None).await;
    let deployment = manifest("Deployment", workload("web", 3, json!({})));
    kubectl(&world, &["apply", "-f", "-"], Some(deployment)).await;
    run(&["wait", "--for=condition=available", "deployment/web", "--timeout=20s"]).await;
    run(&["set", "image", "deployment/web", "c=v2"]).await;
    let status = run(&["rollout", "status", "deployment/web", "--timeout=20s"]).await;
    assert!(status.contains("successfully rolled out"), "{status}");
    let history = run(&["rollout", "history", "deployment/web"]).await;
    let revisions: Vec<&str> = history.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(revisions[2..], ["1", "2"], "{history}");
    run(&["rollout", "undo", "deployment/web"]).await;
    run(&["rollout", "status", "deployment/web", "--timeout=20s"]).await;
    let image =
        run(&["get", "deployment/web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"]).await;
    assert_eq!(image, "v1");
    run(&["rollout", "pause", "deployment/web"]).await;
    run(&["scale", "deployment/web", "--replicas=5"]).await;
    run(&["wait", "--for=jsonpath={.status.readyReplicas}=5", "deployment/web", "--timeout=20s"]).await;
    run(&["rollout", "resume", "deployment/web"]).await;
    run(&["rollout", "restart", "deployment/web"]).await;
    run(&["rollout", "status", "deployment/web", "--timeout=20s"]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stateful_and_daemon_sets_have_a_history_too() {
    let world = World::new(2).await;
    let run = async |args: &[&str]| kubectl(&world, args, None).await;
    let mut daemon = workload("agent", 0, json!({}));
    daemon["spec"].as_object_mut().unwrap().remove("replicas");
    kubectl(&world, &["apply", "-f", "-"], Some(manifest("DaemonSet", daemon))).await;
    let stateful = manifest("StatefulSet", workload("db", 2, json!({"serviceName": "db"})));
    kubectl(&world, &["apply", "-f", "-"], Some(stateful)).await;
    for set in ["daemonset/agent", "statefulset/db"] {
        run(&["rollout", "status", set, "--timeout=20s"]).await;
        run(&["set", "image", set, "c=v2"]).await;
        run(&["rollout", "status", set, "--timeout=20s"]).await;
        let history = run(&["rollout", "history", set]).await;
        assert!(history.lines().any(|l| l.starts_with('2')), "{history}");
        run(&["rollout", "undo", set]).await;
        run(&["rollout", "status", set, "--timeout=20s"]).await;
        let image = run(&["get", set, "-o", "jsonpath={.spec.template.spec.containers[0].image}"]).await;
        assert_eq!(image, "v1");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_shows_what_happened() {
    let world = World::new(1).await;
    world.create::<k8s_openapi::api::apps::v1::Deployment>(workload("web", 1, json!({}))).await;
    let pods = world.ready_pods("web", 1).await;
    let name = pods[0].metadata.name.clone().unwrap();
    world
        .eventually("the events in both descriptions", async || {
            let of_pod = kubectl(&world, &["describe", "pod", &name], None).await;
            let of_deployment = kubectl(&world, &["describe", "deployment", "web"], None).await;
            let assigned = of_pod.contains(&format!("Successfully assigned default/{name} to node-1"));
            (assigned && of_deployment.contains("Scaled up replica set web-")).then_some(())
        })
        .await;
    world.stop().await;
}
