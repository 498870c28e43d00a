//! `kubectl`, the independent witness: what people type must work against a twin.

mod support;

use kilter_testkit::wait_until;
use std::time::Duration;
use support::{Twin, describe, example};

const WAIT: Duration = Duration::from_secs(20);

#[test]
fn people_work_with_a_twin_as_with_any_cluster() {
    let twin = Twin::named("kubectl");
    twin.up(&[&example("shop")]);

    reads(&twin);
    scales(&twin);
    applies_and_deletes(&twin);
    runs_programs_inside_pods(&twin);
    readiness_gates_endpoints(&twin);
    liveness_restarts(&twin);
}

fn reads(twin: &Twin) {
    let nodes = twin.kubectl(&["get", "nodes"]);
    assert_eq!(nodes.lines().filter(|l| l.contains(" Ready ")).count(), 3, "{nodes}");
    let pods = twin.kubectl(&["get", "pods", "-A", "-o", "wide"]);
    assert!(pods.lines().skip(1).all(|l| l.contains("Running")), "{pods}");
    // One pod: of several at once newer clients show no events.
    let described = twin.kubectl(&["describe", "pod", "database-0", "-n", "shop"]);
    for expected in ["Ready:          True", "Events:", "Scheduled", "Started"] {
        assert!(described.contains(expected), "describe says {expected:?}:\n{described}");
    }
    let services = twin.kubectl(&["get", "services", "-n", "shop"]);
    assert!(services.contains("10.96."), "{services}");
}

fn scales(twin: &Twin) {
    twin.kubectl(&["scale", "deployment/storefront", "-n", "shop", "--replicas=3"]);
    twin.kubectl(&["rollout", "status", "deployment/storefront", "-n", "shop", "--timeout=20s"]);
    twin.kubectl(&["wait", "deployment/storefront", "-n", "shop", "--for=condition=Available", "--timeout=20s"]);
    let replicas = ["get", "deployment/storefront", "-n", "shop", "-o", "jsonpath={.status.readyReplicas}"];
    wait_until(WAIT, "three ready replicas", || twin.kubectl(&replicas) == "3");
    twin.kubectl(&["scale", "deployment/storefront", "-n", "shop", "--replicas=1"]);
    let pods = ["get", "pods", "-n", "shop", "-l", "app=storefront", "-o", "name"];
    wait_until(WAIT, "one pod is left", || twin.kubectl(&pods).lines().count() == 1);
}

fn applies_and_deletes(twin: &Twin) {
    let manifest = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: visitor, labels: {role: visitor}}\n\
               spec: {containers: [{name: main, image: visitor}]}\n";
    std::fs::write(manifest.path(), pod).unwrap();
    let file = manifest.path().to_str().unwrap();
    assert!(twin.kubectl(&["apply", "-f", file]).contains("created"));
    assert!(twin.kubectl(&["apply", "-f", file]).contains("unchanged"));
    twin.kubectl(&["wait", "pod/visitor", "--for=condition=Ready", "--timeout=20s"]);
    std::fs::write(manifest.path(), pod.replace("role: visitor", "role: guest")).unwrap();
    assert!(twin.kubectl(&["apply", "-f", file]).contains("configured"));
    let role = twin.kubectl(&["get", "pod", "visitor", "-o", "jsonpath={.metadata.labels.role}"]);
    assert_eq!(role, "guest");
    assert!(twin.kubectl(&["logs", "visitor"]).contains("stand-in"));
}

fn runs_programs_inside_pods(twin: &Twin) {
    let address = twin.kubectl(&["get", "pod", "visitor", "-o", "jsonpath={.status.podIP}"]);
    let inside = twin.kubectl(&["exec", "visitor", "--", "cat", "/etc/resolv.conf", "/etc/hosts"]);
    assert!(inside.contains("nameserver 10.96.0.10") && inside.contains(&address), "{inside}");
    let failing = twin.try_kubectl(&["exec", "visitor", "--", "sh", "-c", "exit 7"]);
    assert_eq!(failing.status.code(), Some(7), "{}", describe(&failing));
    let name = twin.kubectl(&["exec", "visitor", "--", "getent", "hosts", "storefront.shop.svc.cluster.local"]);
    assert!(name.starts_with("10.96."), "DNS answers inside a pod: {name}");
    twin.kubectl(&["delete", "pod", "visitor", "--wait=true", "--timeout=20s"]);
    assert!(!twin.try_kubectl(&["get", "pod", "visitor"]).status.success());
}

fn readiness_gates_endpoints(twin: &Twin) {
    let ready = |count: usize| {
        let path = "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]}{\"\\n\"}{end}";
        let slices =
            ["get", "endpointslices", "-n", "shop", "-l", "kubernetes.io/service-name=storefront", "-o", path];
        wait_until(WAIT, &format!("{count} ready endpoints"), || twin.kubectl(&slices).lines().count() == count);
    };
    let pod = twin.kubectl(&["get", "pods", "-n", "shop", "-l", "app=storefront", "-o", "name"]);
    let pod = pod.trim();
    ready(1);
    twin.kubectl(&["annotate", pod, "-n", "shop", "kilter.dev/fail=readiness"]);
    ready(0);
    twin.kubectl(&["annotate", pod, "-n", "shop", "kilter.dev/fail-"]);
    ready(1);
}

fn liveness_restarts(twin: &Twin) {
    let pod = twin.kubectl(&["get", "pods", "-n", "shop", "-l", "app=storefront", "-o", "name"]);
    let pod = pod.trim();
    twin.kubectl(&["annotate", pod, "-n", "shop", "kilter.dev/fail=liveness"]);
    let restarts = ["get", pod, "-n", "shop", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    wait_until(Duration::from_secs(60), "a restart", || twin.kubectl(&restarts).parse::<u32>().unwrap_or(0) > 0);
    twin.kubectl(&["annotate", pod, "-n", "shop", "kilter.dev/fail-"]);
}
