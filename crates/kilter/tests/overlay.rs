//! Twins whose pods' packets travel in VXLAN: the same answers, other ways.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Twin, describe, example};

const PATIENCE: Duration = Duration::from_secs(60);

fn up(name: &str, family: &str) -> Twin {
    let twin = Twin::named(name);
    let shop = example("shop");
    let args = ["up", "-o", "json", "--routing", "vxlan", "--ip-family", family, "-f", shop.to_str().unwrap()];
    let output = twin.kilter(&args);
    assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
    twin
}

/// Runs `ip ARGS` in one of a twin's namespaces.
fn ip(twin: &Twin, namespace: &str, args: &str) -> String {
    let path = PathBuf::from("/run/kilter").join(&twin.name).join("ns").join(namespace);
    let output = Command::new("nsenter")
        .arg(format!("--net={}", path.display()))
        .arg("ip")
        .args(args.split(' '))
        .output()
        .expect("nsenter runs");
    assert!(output.status.success(), "ip {args} in {}: {}", path.display(), describe(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn prove(twin: &Twin) -> Output {
    twin.kilter(&["prove"])
}

/// Changes something behind a node's back by `ip CHANGE`, which `prove` finds. A node that hears of another
/// sets its routes again, which may come first: then once more.
#[track_caller]
fn finds(twin: &Twin, node: &str, change: &str, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        ip(twin, node, change);
        let output = prove(twin);
        if output.status.code() == Some(1) && String::from_utf8_lossy(&output.stdout).contains(what) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {}", describe(&output));
    }
}

fn until_proved(twin: &Twin) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = prove(twin);
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < deadline, "{}\n{}", describe(&output), twin.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn kill_node(twin: &Twin, node: &str) {
    let file = Path::new("/run/kilter").join(&twin.name).join("nodes").join(node).join("pid");
    let pid = std::fs::read_to_string(file).expect("a process id").trim().parse().expect("a number");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
}

#[test]
fn both_families_over_ipv4_and_prove_knows_the_tunnel() {
    let twin = up("vxlan", "dual");
    assert_eq!(twin.verify()["disagreements"], 0);

    let link = twin.kubectl(&["exec", "-n", "shop", "deploy/cart", "--", "ip", "link", "show", "eth0"]);
    assert!(link.contains("mtu 1450"), "{link}");
    for family in ["-4", "-6"] {
        let routes = ip(&twin, "fabric", &format!("{family} route"));
        assert!(!routes.contains("244"), "the fabric knows nothing of pods: {routes}");
    }

    finds(
        &twin,
        "node-1",
        "link set kilter-vxlan mtu 1400",
        "kilter-vxlan is `external VXLAN, port 8472, mtu 1400, up`",
    );
    ip(&twin, "node-1", "link set kilter-vxlan mtu 1450");
    until_proved(&twin);
    finds(
        &twin,
        "node-1",
        "route replace 10.244.1.0/24 via 10.240.0.12",
        "has no route to 10.244.1.0/24 through tunnel 1 to 10.240.0.12",
    );
    finds(&twin, "node-2", "link del kilter-vxlan", "kilter-vxlan is `missing`");
    // Whoever comes after a process that was killed makes it all as it must be.
    kill_node(&twin, "node-1");
    kill_node(&twin, "node-2");
    until_proved(&twin);
    assert_eq!(twin.verify()["disagreements"], 0);
}

#[test]
fn nodes_over_ipv6_come_and_go() {
    let twin = up("vxlan6", "ipv6");
    assert_eq!(twin.verify()["disagreements"], 0);
    let link = twin.kubectl(&["exec", "-n", "shop", "deploy/cart", "--", "ip", "link", "show", "eth0"]);
    assert!(link.contains("mtu 1430"), "{link}");

    let node = |args: &[&str]| {
        let output = twin.kilter(&[&["node"], args].concat());
        assert!(output.status.success(), "kilter node {args:?}: {}", describe(&output));
    };
    let settle = || {
        let output = twin.kilter(&["chaos", "heal"]);
        assert!(output.status.success(), "packets and model agree again: {}", describe(&output));
        until_proved(&twin);
    };
    node(&["add"]);
    settle();
    node(&["remove", "node-2"]);
    settle();
    node(&["add"]);
    settle();
    node(&["isolate", "node-3"]);
    settle();
    assert_eq!(twin.verify()["disagreements"], 0);
}
