//! Addresses of Services of type LoadBalancer.

mod common;

use common::World;
use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use serde_json::{Value, json};

/// A load balancer with these fields in its spec.
fn balancer(name: &str, more: Value) -> Value {
    let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn service(world: &World, name: &str) -> Option<Service> {
    world.api::<Service>().get(name).await.ok()
}

fn addresses(service: &Service) -> Vec<String> {
    let status = serde_json::to_value(&service.status).unwrap();
    let ingress = status["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    ingress.iter().map(|it| format!("{} {}", it["ip"].as_str().unwrap(), it["ipMode"].as_str().unwrap())).collect()
}

/// Why a Service has no address, if it says.
fn reason(service: &Service) -> Option<String> {
    let conditions = service.status.as_ref()?.conditions.as_ref()?;
    Some(conditions.iter().find(|it| it.type_ == "kilter.dev/AddressAssigned")?.reason.clone())
}

async fn has(world: &World, name: &str, expected: &[&str]) {
    let what = format!("{name} has {expected:?}");
    world.eventually(&what, async || (addresses(&service(world, name).await?) == expected).then_some(())).await;
}

async fn waits(world: &World, name: &str, why: &str) {
    let what = format!("{name} waits: {why}");
    world.eventually(&what, async || (reason(&service(world, name).await?)? == why).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn balancers_get_addresses_keep_them_and_give_them_back() {
    let world = World::new(0).await;
    world.create::<Service>(balancer("a", json!({"loadBalancerIP": "192.0.2.3"}))).await;
    has(&world, "a", &["192.0.2.3 VIP"]).await;
    world.create::<Service>(balancer("foreign", json!({"loadBalancerClass": "cloud.example/nlb"}))).await;
    for (number, name) in [(1, "b"), (2, "c"), (4, "d"), (5, "e"), (6, "f")] {
        world.create::<Service>(balancer(name, json!({"loadBalancerClass": "kilter.dev/node-network"}))).await;
        has(&world, name, &[&format!("192.0.2.{number} VIP")]).await;
    }
    world.create::<Service>(balancer("late", json!({}))).await;
    waits(&world, "late", "PoolExhausted").await;
    world.create::<Service>(balancer("twin", json!({"loadBalancerIP": "192.0.2.3"}))).await;
    waits(&world, "twin", "AddressInUse").await;
    world.create::<Service>(balancer("away", json!({"loadBalancerIP": "203.0.113.1"}))).await;
    waits(&world, "away", "AddressOutsidePool").await;
    let told = world.eventually("the reasons are told", async || {
        let events = world.list::<Event>("").await;
        let of = |name: &str| events.iter().find(|e| e.involved_object.name.as_deref() == Some(name) && e.type_.as_deref() == Some("Warning"))?.message.clone();
        Some([of("late")?, of("twin")?, of("away")?])
    });
    assert_eq!(
        told.await,
        [
            "every IPv4 address of the load balancer pool is given away",
            "spec.loadBalancerIP 192.0.2.3 is Service default/a's",
            "spec.loadBalancerIP 203.0.113.1 is not in the pool of load balancer addresses",
        ]
    );

    // One is deleted, one becomes something else: those who wait get what is free.
    world.patch::<Service>("c", json!({"spec": {"type": "ClusterIP"}})).await;
    has(&world, "c", &[]).await;
    has(&world, "late", &["192.0.2.2 VIP"]).await;
    world.api::<Service>().delete("a", &Default::default()).await.unwrap();
    has(&world, "twin", &["192.0.2.3 VIP"]).await;
    assert_eq!(reason(&service(&world, "twin").await.unwrap()), None);
    world.patch::<Service>("away", json!({"spec": {"loadBalancerIP": null}})).await;
    world.patch::<Service>("b", json!({"spec": {"loadBalancerIP": "203.0.113.2"}})).await;
    waits(&world, "b", "AddressOutsidePool").await;
    has(&world, "away", &["192.0.2.1 VIP"]).await;
    let foreign = service(&world, "foreign").await.unwrap();
    assert_eq!((addresses(&foreign), reason(&foreign)), (vec![], None), "not ours to serve");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_status_says_survives_a_restart_of_the_controllers() {
    let mut world = World::new(0).await;
    world.create::<Service>(balancer("a", json!({}))).await;
    has(&world, "a", &["192.0.2.1 VIP"]).await;
    world.create::<Service>(balancer("b", json!({}))).await;
    has(&world, "b", &["192.0.2.2 VIP"]).await;
    world.stop_controllers().await;
    // While nobody watches, one goes and others come, one with a copy of a status.
    world.api::<Service>().delete("a", &Default::default()).await.unwrap();
    world.create::<Service>(balancer("aa", json!({}))).await;
    let copied = world.create::<Service>(balancer("copy", json!({}))).await;
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "ipMode": "VIP"}]}}});
    let params = kube::api::PatchParams::default();
    world.api::<Service>().patch_status(&copied.name_any(), &params, &kube::api::Patch::Merge(status)).await.unwrap();
    world.start_controllers();
    has(&world, "b", &["192.0.2.2 VIP"]).await;
    world
        .eventually("each has one of its own", async || {
            let mut all = Vec::new();
            for name in ["aa", "b", "copy"] {
                all.extend(addresses(&service(&world, name).await?));
            }
            all.sort();
            all.dedup();
            (all.len() == 3).then_some(())
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_what_is_anothers_or_cannot_be_had_is_told() {
    let world = World::new(0).await;
    world.create::<Service>(balancer("a", json!({"loadBalancerIP": "192.0.2.3"}))).await;
    has(&world, "a", &["192.0.2.3 VIP"]).await;
    let plain = |name: &str, external: Value| {
        json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "externalIPs": external}})
    };
    let b = world.create::<Service>(plain("b", json!(["192.0.2.3", "198.51.100.7"]))).await;
    let ip = b.spec.unwrap().cluster_ip.unwrap();
    world.create::<Service>(plain("c", json!([ip]))).await;
    world
        .create::<EndpointSlice>(json!({
            "metadata": {"name": "c-1", "labels": {"kubernetes.io/service-name": "c"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [ip]}, {"addresses": ["10.244.0.9"]}], "ports": [{"port": 80}],
        }))
        .await;
    let annotated = |name: &str, how: &str, affinity: &str| {
        json!({"metadata": {"name": name, "annotations": {"kilter.dev/forwarding": how}},
            "spec": {"ports": [{"port": 80}], "sessionAffinity": affinity}})
    };
    for (name, how, affinity) in [("d", "DSR", "None"), ("e", "dsr", "ClientIP"), ("f", "dsr", "None"), ("g", "snat", "ClientIP")] {
        world.create::<Service>(annotated(name, how, affinity)).await;
    }
    for (name, ip) in [("h", Value::Null), ("i", "None".into())] {
        let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 9899, "protocol": "SCTP"}]);
        world.create::<Service>(json!({"metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": ports}})).await;
    }
    let told = world.eventually("all is told", async || {
        let events = world.list::<Event>("").await;
        let warnings = events.into_iter().filter(|event| event.type_.as_deref() == Some("Warning"));
        let said = |event: Event| {
            format!("{} {} {}", event.involved_object.name.unwrap(), event.reason.unwrap(), event.message.unwrap())
        };
        let mut all: Vec<String> = warnings.map(said).collect();
        all.sort();
        (all.len() >= 6).then_some(all)
    });
    assert_eq!(
        told.await,
        [
            "b ExternalIPInUse spec.externalIPs 192.0.2.3 is an address of Service default/a: ports that both have are its".to_owned(),
            format!("c EndpointIsService endpoint {ip} of slice c-1 is Service default/b, which no Service may lead to: it is passed over"),
            format!("c ExternalIPInUse spec.externalIPs {ip} is an address of Service default/b: ports that both have are its"),
            "d ForwardingIgnored kilter.dev/forwarding: \"DSR\" is neither snat nor dsr; packets from outside are sent on under a node's address, as with snat".to_owned(),
            "e ForwardingIgnored kilter.dev/forwarding: dsr cannot be had: each node remembers by itself which client had which endpoint (sessionAffinity); packets from outside are sent on under a node's address, as with snat".to_owned(),
            "h ProtocolNotServed port 9899 of SCTP is not served: its clients must ask the pods' own addresses (clusterIP: None)".to_owned(),
        ]
    );
    world.stop().await;
}
