//! The plugin as containerd drives it (libcni): lists of plugins, results handed on, CHECK, GC and a
//! DEL that may come twice and too late. The neighbours in the list are the reference plugins of the
//! Debian package containernetworking-plugins.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kilter_netlink::{Netlink, Route};
use kilter_testkit::{TestNetNs, wait_until};
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, namespace, plugin_program, pod};

const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

/// A runtime with one network, as its configuration list says.
struct Runtime<'a> {
    world: &'a World,
    network: &'static str,
    version: &'static str,
    plugins: Vec<Value>,
}

/// A sandbox of the runtime: its namespace, and the last result, which the runtime keeps.
struct Sandbox {
    pod: &'static str,
    netns: Option<TestNetNs>,
    result: Value,
}

impl Sandbox {
    fn id(&self) -> String {
        format!("c-{}", self.pod)
    }

    fn address(&self) -> Ipv4Addr {
        let own = |ip: &&Value| ip["address"].as_str().unwrap().ends_with("/32");
        let ip = self.result["ips"].as_array().unwrap().iter().find(own).unwrap();
        ip["address"].as_str().unwrap().strip_suffix("/32").unwrap().parse().unwrap()
    }

    /// The name of the node's side of its link.
    fn link(&self) -> &str {
        let names = self.result["interfaces"].as_array().unwrap().iter();
        names.filter_map(|i| i["name"].as_str()).find(|name| name.starts_with("klt")).unwrap()
    }

    fn netlink(&self, world: &World) -> Netlink {
        world.block_on(async { Netlink::new(self.netns.as_ref().unwrap()).unwrap() })
    }
}

impl<'a> Runtime<'a> {
    fn new(world: &'a World, version: &'static str, plugins: &[Value]) -> Self {
        Self { world, network: "kilter", version, plugins: plugins.to_vec() }
    }

    fn add(&self, pod: &'static str) -> Result<Sandbox, Value> {
        let mut sandbox = Sandbox { pod, netns: Some(TestNetNs::new(pod)), result: Value::Null };
        for plugin in &self.plugins {
            sandbox.result = self.call("ADD", plugin, Some(&sandbox), json!({}))?;
        }
        Ok(sandbox)
    }

    fn del(&self, sandbox: &Sandbox) -> Result<(), Value> {
        self.plugins.iter().rev().try_for_each(|p| self.call("DEL", p, Some(sandbox), json!({})).map(drop))
    }

    fn check(&self, sandbox: &Sandbox) -> Result<(), Value> {
        self.plugins.iter().try_for_each(|p| self.call("CHECK", p, Some(sandbox), json!({})).map(drop))
    }

    fn gc(&self, valid: &[(&str, &str)]) -> Result<(), Value> {
        let list: Vec<_> =
            valid.iter().map(|(id, ifname)| json!({ "containerID": id, "ifname": ifname })).collect();
        let more = json!({ "cni.dev/valid-attachments": list, "cni.dev/attachments": list });
        self.plugins.iter().try_for_each(|p| self.call("GC", p, None, more.clone()).map(drop))
    }

    fn call(
        &self,
        command: &str,
        plugin: &Value,
        sandbox: Option<&Sandbox>,
        more: Value,
    ) -> Result<Value, Value> {
        let mut input = plugin.clone();
        input["cniVersion"] = self.version.into();
        input["name"] = self.network.into();
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut process = Command::new(self.program(plugin));
        process.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("CNI_COMMAND", command);
        process.env("CNI_PATH", REFERENCE_PLUGINS).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(sandbox) = sandbox {
            if !sandbox.result.is_null() {
                input["prevResult"] = sandbox.result.clone();
            }
            let pod = sandbox.pod;
            process.env("CNI_CONTAINERID", sandbox.id()).env("CNI_IFNAME", "eth0");
            process.env("CNI_NETNS", sandbox.netns.as_ref().map_or(Path::new(""), |netns| netns.path()));
            process.env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}"),
            );
        }
        // The runtime lives in its node's namespace, and so do the plugins.
        let mut child = self.world.node.run(|| process.spawn()).unwrap().unwrap();
        child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() { Ok(answer) } else { Err(answer) }
    }

    fn program(&self, plugin: &Value) -> PathBuf {
        match plugin["type"].as_str().unwrap() {
            "kilter-cni" => plugin_program(),
            other => Path::new(REFERENCE_PLUGINS).join(other),
        }
    }
}

fn kilter(world: &World) -> Value {
    json!({ "type": "kilter-cni", "agentSocket": world.socket() })
}

fn missing(failure: &Value) -> &str {
    assert_eq!(failure["code"], 101, "{failure}");
    failure["details"].as_str().unwrap()
}

#[test]
fn a_list_with_portmap_and_bandwidth_works_and_goes_without_a_trace() {
    let mut world = World::new("chain");
    world.apply([namespace("shop"), pod("web"), pod("db")]);
    for (version, name) in [("0.4.0", "web"), ("1.0.0", "db")] {
        let mappings = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
        let plugins = [
            kilter(&world),
            json!({ "type": "portmap", "snat": true, "runtimeConfig": { "portMappings": mappings } }),
            json!({ "type": "bandwidth", "runtimeConfig": { "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 8_000_000 } } }),
        ];
        let runtime = Runtime::new(&world, version, &plugins);
        let mut sandbox = runtime.add(name).unwrap();
        assert_eq!(sandbox.result["cniVersion"], version);
        // Portmap's own CHECK (1.1.1) wants its chain in ip6tables although the pod has no such address.
        for plugin in [&plugins[0], &plugins[2]] {
            runtime.call("CHECK", plugin, Some(&sandbox), json!({})).unwrap();
        }

        let listener = {
            let at = (sandbox.address(), 80);
            sandbox.netns.as_ref().unwrap().run(|| std::net::TcpListener::bind(at).unwrap()).unwrap()
        };
        let node = SocketAddr::from(([10, 240, 0, 11], 8080));
        let mut client = world.fabric.run(|| TcpStream::connect_timeout(&node, PATIENCE)).unwrap().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"in").unwrap();
        server.read_exact(&mut [0; 2]).unwrap();

        runtime.del(&sandbox).unwrap();
        runtime.del(&sandbox).unwrap();
        drop((listener, server));
        sandbox.netns = None;
        runtime.del(&sandbox).unwrap();
        wait_until(PATIENCE, "all of it goes", || world.pod_links().is_empty() && world.records().is_empty());
    }
}

#[test]
fn behind_another_plugin_the_result_has_both() {
    let mut world = World::new("second");
    world.apply([namespace("shop"), pod("web")]);
    let runtime = Runtime::new(&world, "1.0.0", &[json!({ "type": "loopback" }), kilter(&world)]);
    let sandbox = runtime.add("web").unwrap();
    let names: Vec<_> =
        sandbox.result["interfaces"].as_array().unwrap().iter().map(|i| i["name"].clone()).collect();
    assert_eq!(names, [json!("lo"), json!(sandbox.link()), json!("eth0")]);
    let own = sandbox.result["ips"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&own["address"], &own["interface"]), (&json!("10.244.1.2/32"), &json!(2)));
    runtime.check(&sandbox).unwrap();
    runtime.del(&sandbox).unwrap();
}

#[test]
fn check_names_what_somebody_took_away() {
    let mut world = World::new("check");
    world.apply([namespace("shop"), pod("web"), pod("other")]);
    let runtime = Runtime::new(&world, "1.1.0", &[kilter(&world)]);
    let mut web = runtime.add("web").unwrap();
    runtime.check(&web).unwrap();
    let inside = web.netlink(&world);
    let eth0 = world.block_on(inside.link_index("eth0")).unwrap();
    let on_node = world.block_on(world.netlink.link_index(web.link())).unwrap();
    let address: ipnet::IpNet = format!("{}/32", web.address()).parse().unwrap();
    let gateway = Route::default_via("169.254.1.1".parse().unwrap(), eth0);

    world.block_on(inside.delete_route(&gateway)).unwrap();
    assert_eq!(
        missing(&runtime.check(&web).unwrap_err()),
        "missing: the pod's route to 0.0.0.0/0; DEL and ADD it again"
    );
    // A later plugin may have taken it away on purpose; the last result of the chain then says so.
    let routes = web.result["routes"].take();
    runtime.check(&web).unwrap();
    web.result["routes"] = routes;
    world.block_on(inside.replace_route(&gateway)).unwrap();
    runtime.check(&web).unwrap();

    world.block_on(world.netlink.delete_route(&Route::on_link(address, on_node))).unwrap();
    assert!(missing(&runtime.check(&web).unwrap_err()).contains("the node's route to 10.244.1.2/32"));
    world.block_on(world.netlink.replace_route(&Route::on_link(address, on_node))).unwrap();

    let tc = |what: &[&str]| {
        let done = world.node.run(|| Command::new("tc").args(what).output().unwrap()).unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    tc(&["filter", "del", "dev", web.link(), "egress"]);
    assert_eq!(missing(&runtime.check(&web).unwrap_err()), "missing: the hook to_pod; DEL and ADD it again");
    tc(&["qdisc", "del", "dev", web.link(), "clsact"]);
    let both = runtime.check(&web).unwrap_err();
    assert!(missing(&both).contains("to_pod") && missing(&both).contains("from_pod"), "{both}");

    world.block_on(inside.delete_address(eth0, address)).unwrap();
    assert!(missing(&runtime.check(&web).unwrap_err()).contains("the pod's address 10.244.1.2/32"));
    world.block_on(inside.delete_link(eth0)).unwrap();
    let gone = runtime.check(&web).unwrap_err();
    assert!(
        missing(&gone).contains("the node's link") && missing(&gone).contains("the pod's link eth0"),
        "{gone}"
    );

    let other = runtime.add("other").unwrap();
    runtime.del(&other).unwrap();
    assert_eq!(runtime.check(&other).unwrap_err()["code"], 3);
}

#[test]
fn gc_removes_what_the_runtime_does_not_list_of_its_network() {
    let mut world = World::new("gc");
    let names = ["keeps", "stale", "renamed", "foreign"];
    world.apply([namespace("shop"), pod("keeps"), pod("stale"), pod("renamed"), pod("foreign")]);
    let runtime = Runtime::new(&world, "1.1.0", &[kilter(&world)]);
    let elsewhere = Runtime { network: "other", ..Runtime::new(&world, "1.1.0", &[kilter(&world)]) };
    let mut sandboxes: Vec<_> = names[..3].iter().map(|name| runtime.add(name).unwrap()).collect();
    sandboxes.push(elsewhere.add("foreign").unwrap());
    let records = |world: &World, left: &[&str]| {
        let left: Vec<_> = left.iter().map(|name| format!("c-{name}.wired")).collect();
        wait_until(PATIENCE, "the stale go and the rest stays", || world.records() == left);
    };
    runtime.gc(&[("c-keeps", "eth0"), ("c-renamed", "eth1"), ("c-never-there", "eth0")]).unwrap();
    records(&world, &["foreign", "keeps"]);
    runtime.check(&sandboxes[0]).unwrap();
    elsewhere.check(&sandboxes[3]).unwrap();
    runtime.gc(&[]).unwrap();
    records(&world, &["foreign"]);
    runtime.del(&sandboxes[1]).unwrap();
}

#[test]
fn status_says_whether_an_add_has_a_chance() {
    let mut world = World::new("status");
    let status =
        |world: &World| Runtime::new(world, "1.1.0", &[]).call("STATUS", &kilter(world), None, json!({}));
    status(&world).unwrap();
    world.stop();
    assert_eq!(status(&world).unwrap_err()["code"], 50);
    world.start_unsynced();
    let blind = status(&world).unwrap_err();
    assert_eq!(blind["code"], 50, "{blind}");
    assert!(blind["details"].as_str().unwrap().contains("has not seen the whole cluster"), "{blind}");
}
