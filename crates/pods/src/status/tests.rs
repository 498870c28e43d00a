use std::time::Instant;

use super::*;
use crate::container::{End, containers};
use serde_json::json;

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).unwrap()
}

fn status(pod: &Pod, containers: &[Container], addresses: &[IpAddr]) -> PodStatus {
    pod_status(&Facts {
        pod,
        node_ips: &["10.240.0.11".parse().unwrap()],
        addresses,
        sandbox: !addresses.is_empty(),
        containers,
        started: "2026-01-01T00:00:00Z".parse().unwrap(),
        now: "2026-01-01T00:00:10Z".parse().unwrap(),
    })
}

fn start(container: &mut Container) {
    container.begin();
    container.up(Instant::now());
}

fn summary(status: &PodStatus) -> String {
    let conditions = status.conditions.iter().flatten().map(|c| {
        let reason = c.reason.as_ref().map(|r| format!("({r})")).unwrap_or_default();
        format!("{}={}{reason}", c.type_, c.status)
    });
    format!("{} {}", status.phase.as_ref().unwrap(), conditions.collect::<Vec<_>>().join(" "))
}

#[test]
fn a_pod_goes_from_pending_to_ready_and_back() {
    let pod = pod(json!({
        "initContainers": [{"name": "setup"}],
        "containers": [{"name": "web", "readinessProbe": {"httpGet": {"port": 80}}}, {"name": "log"}],
    }));
    let mut all = containers(&pod, false);
    assert_eq!(
        summary(&status(&pod, &all, &[])),
        "Pending PodReadyToStartContainers=False Initialized=False(ContainersNotInitialized) \
         Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady) PodScheduled=True"
    );
    let address = ["10.244.1.2".parse().unwrap()];
    for container in &mut all {
        start(container);
    }
    all[0].end(&End::Exited(0));
    let unready = status(&pod, &all, &address);
    assert_eq!(
        summary(&unready),
        "Running PodReadyToStartContainers=True Initialized=True Ready=False(ContainersNotReady) \
         ContainersReady=False(ContainersNotReady) PodScheduled=True"
    );
    assert_eq!(
        unready.conditions.as_ref().unwrap()[2].message.as_deref(),
        Some("containers with unready status: [web]")
    );
    all[1].probed_ready = true;
    let ready = status(&pod, &all, &address);
    assert!(summary(&ready).ends_with("Initialized=True Ready=True ContainersReady=True PodScheduled=True"));
    assert_eq!(ready.pod_ip.as_deref(), Some("10.244.1.2"));
    assert_eq!(
        ready.init_container_statuses.unwrap()[0]
            .state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code,
        0
    );
}

#[test]
fn others_conditions_and_transition_times_are_kept() {
    let mut pod =
        pod(json!({"containers": [{"name": "web"}], "readinessGates": [{"conditionType": "lb/ok"}]}));
    pod.status = serde_json::from_value(json!({"conditions": [
        {"type": "lb/ok", "status": "False"},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2025-12-31T00:00:00Z"},
    ]}))
    .unwrap();
    let mut all = containers(&pod, false);
    start(&mut all[0]);
    let now = status(&pod, &all, &["10.244.1.2".parse().unwrap()]);
    assert_eq!(
        summary(&now),
        "Running PodReadyToStartContainers=True Initialized=True Ready=False(ReadinessGatesNotReady) \
         ContainersReady=True PodScheduled=True lb/ok=False"
    );
    let scheduled = &now.conditions.as_ref().unwrap()[4];
    assert_eq!(scheduled.last_transition_time.as_ref().unwrap().0.to_string(), "2025-12-31T00:00:00Z");
}

#[test]
fn a_crash_loop_is_running_and_an_end_for_good_is_an_end() {
    let always = pod(json!({"containers": [{"name": "web"}]}));
    let mut all = containers(&always, false);
    start(&mut all[0]);
    all[0].end(&End::Stopped);
    all[0].restart(&End::Stopped, Instant::now(), "web_shop()");
    assert!(summary(&status(&always, &all, &[])).starts_with("Running "));

    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "web"}]}));
    let mut all = containers(&never, false);
    start(&mut all[0]);
    all[0].end(&End::Stopped);
    let text = summary(&status(&never, &all, &[]));
    assert!(text.starts_with("Failed ") && text.contains("Ready=False(PodFailed)"), "{text}");
}
