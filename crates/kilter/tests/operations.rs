//! Looking at a twin that runs, and breaking it on purpose.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Twin, describe, example};

/// `kilter flows --follow -o json`, line by line.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Follower {
    fn start(twin: &Twin, args: &[&str]) -> Self {
        let mut command = twin.command(&["flows", "--follow", "-o", "json"]);
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).expect("one JSON object a line"));
            }
        });
        Self { child, lines }
    }

    /// Does `act` until something that `wanted` recognises is told: following begins some time after
    /// the program has started.
    fn sees(&self, act: impl Fn(), wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            act();
            let until = Instant::now() + Duration::from_millis(500);
            while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                if wanted(&line) {
                    return line;
                }
            }
        }
        panic!("it was never told");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_between(line: &Value, from: &str, to: &str) -> bool {
    let is = |party: &Value, workload: &str| {
        party["name"].as_str().is_some_and(|name| name.starts_with(&format!("shop/{workload}-")))
    };
    is(&line["from"], from) && is(&line["to"], to)
}

#[test]
fn flows_tell_what_is_open_what_opens_and_what_was_refused_by_which_rule() {
    let twin = Twin::named("flows");
    twin.up(&[&example("shop")]);
    let curl = |workload: &str| {
        let (target, seconds) = (format!("deploy/{workload}"), "0.3");
        twin.try_kubectl(&["exec", "-n", "shop", &target, "--", "curl", "-sm", seconds, "http://payments/"]);
    };

    let follower = Follower::start(&twin, &["--to", "payments"]);
    let opened = follower.sees(
        || curl("cart"),
        |line| line["what"] == "opened" && line["direction"] == "ingress" && is_between(line, "cart", "payments"),
    );
    assert!(opened["rule"].as_str().unwrap().contains("ingress rule 1 of NetworkPolicy shop/payments"), "{opened}");
    let dropped = follower.sees(
        || curl("storefront"),
        |line| line["what"] == "dropped" && is_between(line, "storefront", "payments"),
    );
    assert!(dropped["rule"].as_str().unwrap().contains("isolated for egress by"), "{dropped}");
    drop(follower);

    let recent = twin.kilter(&["flows", "--drops", "--from", "shop/storefront", "--to", "payments"]);
    assert!(recent.status.success(), "{}", describe(&recent));
    let text = String::from_utf8_lossy(&recent.stdout);
    assert!(text.lines().count() > 0 && text.lines().all(|line| line.contains("NetworkPolicy shop/storefront")), "{text}");

    let open = twin.kilter(&["flows", "--from", "cart", "--to", "payments", "--protocol", "tcp", "-o", "json"]);
    let open: Value = serde_json::from_slice(&open.stdout).unwrap();
    let joined = &open.as_array().unwrap()[0];
    assert!(joined["egress"].is_string() && joined["ingress"].is_string(), "both sides' rules: {joined}");

    let unknown = twin.kilter(&["flows", "--node", "node-9"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("node-1, node-2, node-3"));
}

#[test]
fn what_is_broken_on_purpose_shows_and_heals() {
    let twin = Twin::named("chaos");
    twin.up(&[&example("shop")]);
    let chaos = |args: &[&str]| {
        let output = twin.kilter(&[&["chaos"], args].concat());
        assert!(output.status.success(), "kilter chaos {args:?}: {}", describe(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let disagreements = || {
        let output = twin.kilter(&["verify", "-o", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        report["disagreements"].as_u64().unwrap()
    };

    chaos(&["cut-link", "node-1", "node-2"]);
    assert!(disagreements() > 0, "packets between two nodes are lost");
    assert_eq!(chaos(&["list"]), "node-1 and node-2 do not reach each other\n");
    assert!(chaos(&["heal"]).contains("all is well again"));
    assert_eq!(chaos(&["list"]), "nothing is broken on purpose\n");

    assert!(chaos(&["cut-node", "node-3", "--for", "0.5"]).contains("all is well again"));
    assert!(chaos(&["kill-pod", "shop/database-0"]).contains("all is well again"));
    assert!(chaos(&["fail-probe", "shop/database-0", "readiness", "--for", "0.5"]).contains("all is well again"));
    let missing = twin.kilter(&["chaos", "kill-pod", "shop/nobody"]);
    assert_eq!(missing.status.code(), Some(2), "{}", describe(&missing));
}

#[test]
fn nodes_come_and_go_and_packets_follow() {
    let twin = Twin::named("nodes");
    twin.up(&[&example("shop")]);
    let node = |args: &[&str]| {
        let output = twin.kilter(&[&["node"], args].concat());
        assert!(output.status.success(), "kilter node {args:?}: {}", describe(&output));
    };
    let settle = || {
        let output = twin.kilter(&["chaos", "heal"]);
        assert!(output.status.success(), "packets and model agree again: {}", describe(&output));
    };
    let pods_of = |node: &str| {
        let selector = format!("spec.nodeName={node}");
        twin.kubectl(&["get", "pods", "-A", "--field-selector", &selector, "-o", "name"]).lines().count()
    };

    node(&["add"]);
    settle();
    assert_eq!(pods_of("node-4"), 1, "the DaemonSet's pod runs there, and was tried");
    node(&["remove", "node-2"]);
    settle();
    let names = twin.kubectl(&["get", "nodes", "-o", "name"]);
    assert_eq!(names.lines().collect::<Vec<_>>(), ["node/node-1", "node/node-3", "node/node-4"]);
    assert_eq!(pods_of("node-2"), 0);
    node(&["add"]);
    settle();
    assert_eq!(pods_of("node-2"), 1, "a removed node comes back");
    let unknown = twin.kilter(&["node", "remove", "node-9"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", describe(&unknown));
}
