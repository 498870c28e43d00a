//! Nodes that come, go, are cut off and are cordoned, in each way of routing: the other nodes' routes follow, and
//! packets with them.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kilter_testkit::wait_until;
use support::{Twin, describe, example};

/// A node that is silent is missed after 40 s, and by then the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(150);

/// A twin of three nodes, and what it takes to look at its routes.
struct World {
    twin: Twin,
    vxlan: bool,
}

impl World {
    fn new(name: &str, routing: &str) -> Self {
        let twin = Twin::named(name);
        let shop = example("shop");
        let output = twin.kilter(&["up", "--ip-family", "dual", "--routing", routing, "-f", shop.to_str().unwrap()]);
        assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
        Self { twin, vxlan: routing == "vxlan" }
    }

    fn node(&self, args: &[&str]) {
        let output = self.twin.kilter(&[&["node"], args].concat());
        assert!(output.status.success(), "kilter node {args:?}: {}", describe(&output));
    }

    /// A node's routes of both families.
    fn routes(&self, node: &str) -> String {
        let netns = PathBuf::from("/run/kilter").join(&self.twin.name).join("ns").join(node);
        let list = |family: &str| {
            let netns = format!("--net={}", netns.display());
            let output = Command::new("nsenter").args([&netns, "ip", family, "route"]).output().expect("nsenter runs");
            assert!(output.status.success(), "ip {family} route of {node}: {}", describe(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        list("-4") + &list("-6")
    }

    /// Waits until these nodes have, or have not, routes to the pods of the node with this number.
    #[track_caller]
    fn follow(&self, nodes: &[&str], number: u8, are_there: bool) {
        let blocks = match number {
            1 => ["10.244.0.0/24 ".to_owned(), "fd00:244::/64 ".to_owned()],
            _ => [format!("10.244.{}.0/24 ", number - 1), format!("fd00:244:0:{}::/64 ", number - 1)],
        };
        for node in nodes {
            let what = format!("{node} follows node-{number}: {are_there}");
            wait_until(PATIENCE, &what, || {
                let routes = self.routes(node);
                blocks.iter().all(|block| routes.lines().any(|line| self.leads(line, block)) == are_there)
            });
        }
    }

    fn leads(&self, route: &str, block: &str) -> bool {
        let by = if self.vxlan { "dev kilter-vxlan" } else { "dev eth0" };
        route.contains(block) && route.contains(by)
    }

    /// Packets go as the model says, and what is loaded is what it says.
    #[track_caller]
    fn settle(&self) {
        let output = self.twin.kilter(&["chaos", "heal"]);
        assert!(output.status.success(), "packets and model agree again: {}", describe(&output));
        wait_until(PATIENCE, "prove", || self.twin.kilter(&["prove"]).status.success());
    }

    fn pods_on(&self, node: &str) -> usize {
        let selector = format!("spec.nodeName={node}");
        self.twin.kubectl(&["get", "pods", "-A", "--field-selector", &selector, "-o", "name"]).lines().count()
    }
}

fn nodes_are_followed(world: &World) {
    world.node(&["add"]);
    world.follow(&["node-1", "node-2", "node-3"], 4, true);
    world.follow(&["node-4"], 1, true);
    world.settle();

    world.node(&["remove", "node-2"]);
    world.follow(&["node-1", "node-3", "node-4"], 2, false);
    world.settle();

    // Who is cut off is still where he was: nobody else may have his pods' addresses.
    world.node(&["isolate", "node-3"]);
    let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    wait_until(PATIENCE, "node-3 is missed", || world.twin.kubectl(&["get", "node", "node-3", "-o", ready]) != "True");
    world.follow(&["node-1", "node-4"], 3, true);
    world.node(&["rejoin"]);
    world.settle();
    world.follow(&["node-3"], 4, true);

    world.twin.kubectl(&["cordon", "node-1"]);
    let before = world.pods_on("node-1");
    world.twin.kubectl(&["scale", "-n", "shop", "deployment/cart", "--replicas", "6"]);
    world.twin.kubectl(&["rollout", "status", "-n", "shop", "deployment/cart", "--timeout", "60s"]);
    assert_eq!(world.pods_on("node-1"), before, "nothing new is scheduled there");
    world.settle();
    world.twin.kubectl(&["uncordon", "node-1"]);
    world.twin.kubectl(&["scale", "-n", "shop", "deployment/cart", "--replicas", "9"]);
    world.twin.kubectl(&["rollout", "status", "-n", "shop", "deployment/cart", "--timeout", "60s"]);
    assert!(world.pods_on("node-1") > before);
    world.settle();
}

#[test]
fn routes_follow_nodes_natively() {
    nodes_are_followed(&World::new("routes", "native"));
}

#[test]
fn routes_follow_nodes_through_the_tunnel() {
    nodes_are_followed(&World::new("routes-vxlan", "vxlan"));
}
