//! What is killed comes back: processes by the supervisor, a whole twin by `kilter up`, both from
//! the journal of the API.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Twin, describe, example};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
fn until(what: &str, twin: &Twin, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}\n{}", twin.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pid(twin: &Twin, file: &str) -> Pid {
    let path = Path::new("/run/kilter").join(&twin.name).join(file);
    Pid::from_raw(std::fs::read_to_string(path).expect("a process id").trim().parse().expect("a number"))
}

fn status(twin: &Twin) -> Option<Value> {
    serde_json::from_slice(&twin.kilter(&["status", "-o", "json"]).stdout).ok()
}

fn is_healthy(twin: &Twin) -> bool {
    twin.kilter(&["status"]).status.success()
}

/// The UIDs of pods, by name.
fn uids(twin: &Twin) -> String {
    let mut lines: Vec<String> =
        twin.kubectl(&["get", "pods", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}"])
            .lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

fn revision(twin: &Twin) -> u64 {
    let list: Value = serde_json::from_str(&twin.kubectl(&["get", "--raw", "/api/v1/namespaces"])).expect("JSON");
    list["metadata"]["resourceVersion"].as_str().expect("a revision").parse().expect("a number")
}

#[test]
fn killed_processes_come_back_and_the_api_goes_on_where_it_was() {
    let twin = Twin::named("restart");
    twin.up(&[&example("shop")]);
    let (before, mut newest) = (uids(&twin), revision(&twin));
    for round in 1..=3 {
        // Killed while it writes: what was answered is there afterwards.
        let mut answered = vec![];
        let server = pid(&twin, "control-plane.pid");
        let name = |i: usize| format!("round-{round}-{i}");
        for i in 0..6 {
            if i == 2 {
                kill(server, Signal::SIGKILL).expect("killed");
            }
            if twin.try_kubectl(&["create", "configmap", &name(i)]).status.success() {
                answered.push(name(i));
            }
        }
        until("the API answers", &twin, || twin.try_kubectl(&["get", "--raw", "/readyz"]).status.success());
        for name in &answered {
            twin.kubectl(&["get", "configmap", name]);
        }
        assert!(revision(&twin) >= newest + answered.len() as u64, "revisions rise");
        newest = revision(&twin);
        until("status shows the restart", &twin, || status(&twin).is_some_and(|s| s["controlPlaneRestarts"] == round));
    }
    assert_eq!(uids(&twin), before, "pods are the same");
    kill(pid(&twin, "nodes/node-1/pid"), Signal::SIGKILL).expect("killed");
    until("the node is back", &twin, || {
        status(&twin).is_some_and(|s| s["nodes"][0]["restarts"] == 1) && is_healthy(&twin)
    });
    assert_eq!(uids(&twin), before, "pods are the same");
    twin.kubectl(&["create", "configmap", "after"]);
    twin.verify();
}

#[test]
fn a_twin_of_which_everything_was_killed_goes_on_with_the_next_up() {
    let twin = Twin::named("resume");
    twin.up(&[&example("shop")]);
    // The last waits until all is well again, so that no pod is still to be made anew.
    for change in [["node", "add"].as_slice(), &["node", "remove", "node-2"], &["chaos", "heal"]] {
        let output = twin.kilter(change);
        assert!(output.status.success(), "{change:?}: {}", describe(&output));
    }
    let there = ["get", "pods", "-A", "--field-selector", "spec.nodeName=node-2", "-o", "name"];
    until("its pods are gone", &twin, || twin.kubectl(&there).is_empty() && is_healthy(&twin));
    twin.kubectl(&["create", "configmap", "mine", "--from-literal=a=b"]);
    let (before, newest) = (uids(&twin), revision(&twin));
    let tree = Path::new("/sys/fs/cgroup/unified/kilter").join(&twin.name);
    std::fs::write(tree.join("cgroup.kill"), "1").expect("killed");
    until("all are dead", &twin, || {
        std::fs::read_to_string(tree.join("cgroup.events")).expect("events").contains("populated 0")
    });
    let shop = example("shop");
    let other = twin.kilter(&["up", "--pod-cidr", "10.99.0.0/16", "-f", shop.to_str().expect("a path")]);
    assert_eq!(other.status.code(), Some(2), "{}", describe(&other));
    assert!(describe(&other).contains("had other addresses"), "{}", describe(&other));
    twin.up(&[&shop]);
    let nodes = twin.kubectl(&["get", "nodes", "-o", "name"]);
    let nodes: Vec<&str> = nodes.lines().collect();
    assert_eq!(nodes, ["node/node-1", "node/node-3", "node/node-4"], "the nodes that it had, not those of a new one");
    assert_eq!(uids(&twin), before, "pods are the same");
    assert!(revision(&twin) > newest, "revisions rise");
    assert_eq!(twin.kubectl(&["get", "configmap", "mine", "-o", "jsonpath={.data.a}"]), "b");
    until("all is ready", &twin, || is_healthy(&twin));
    twin.verify();
    assert!(twin.down());
    assert!(!Path::new("/run/kilter").join(&twin.name).exists());
}
