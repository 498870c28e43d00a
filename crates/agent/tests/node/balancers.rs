//! Load balancers' addresses and health checks, as one node sees them.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

use kilter_model::{Event, Exposure, NamespacedName, ServiceType};
use kilter_testkit::wait_until;

use crate::world::{PATIENCE, World, namespace, node, pod, service};

const PORT: u16 = 31_999;

fn balancer(endpoints: &[(std::net::Ipv4Addr, u16)], on: &str, exposure: Exposure) -> [Event; 2] {
    service("web", endpoints).map(|event| match event {
        Event::Service(mut service) => {
            (service.service_type, service.exposure) = (ServiceType::LoadBalancer, exposure.clone());
            Event::Service(service)
        }
        Event::EndpointSlice(mut slice) => {
            slice.endpoints.iter_mut().for_each(|it| it.node = Some(on.into()));
            Event::EndpointSlice(slice)
        }
        other => other,
    })
}

/// What the node says about the Service, to whoever asks it from outside; nothing where nobody listens.
fn asked(world: &World) -> Option<String> {
    let stream = world.fabric.run(|| TcpStream::connect(("10.240.0.11", PORT))).unwrap();
    let mut stream = stream.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn a_health_check_says_whether_the_node_has_endpoints() {
    let mut world = World::new("health");
    world.apply([namespace("shop"), pod("web")]);
    let web = world.add("web");
    let local = Exposure { only_local: true, health_check_port: Some(PORT), ..Exposure::default() };
    let says = |world: &World, status: &str, count: usize| {
        let wanted = format!("\"localEndpoints\": {count}");
        wait_until(PATIENCE, &format!("{status} with {wanted}"), || {
            asked(world).is_some_and(|it| it.starts_with(&format!("HTTP/1.1 {status}")) && it.contains(&wanted))
        });
    };
    world.apply(balancer(&[(web.address, 80)], "here", local.clone()));
    says(&world, "200", 1);
    world.apply(balancer(&[(web.address, 80)], "there", local.clone()));
    says(&world, "503", 0);
    world.stop();
    world.start();
    world.apply([namespace("shop"), pod("web")]);
    world.apply(balancer(&[(web.address, 80)], "here", local));
    says(&world, "200", 1);
    world.apply(balancer(&[(web.address, 80)], "here", Exposure::default()));
    wait_until(PATIENCE, "nobody answers any more", || asked(&world).is_none());
}

#[test]
fn the_node_answers_for_an_address_while_it_is_to_and_after_a_restart() {
    let mut world = World::new("announce");
    let vip: IpAddr = "10.240.255.7".parse().unwrap();
    let exposure = Exposure { load_balancer: vec![vip, "10.9.9.9".parse().unwrap()], ..Exposure::default() };
    let loaded = |world: &World| world.block_on(world.agent().loaded()).unwrap().announced;
    let start = |world: &mut World| {
        world.apply([namespace("shop"), node("here", "10.240.0.11", "10.244.1.0/24"), pod("web")]);
        world.apply(balancer(&[([10, 244, 1, 9].into(), 80)], "here", exposure.clone()));
    };
    start(&mut world);
    assert_eq!(loaded(&world), [vip], "what is in no pool is not ours to take");
    let ip = |words: &str| {
        let run = || std::process::Command::new("ip").args(words.split(' ')).output();
        String::from_utf8(world.fabric.run(run).unwrap().unwrap().stdout).unwrap()
    };
    ip("route add 10.240.255.0/24 dev node");
    let neighbours = || ip("neigh show 10.240.255.7");
    let ask = || drop(world.fabric.run(|| TcpStream::connect_timeout(&(vip, 80).into(), PATIENCE)).unwrap());
    ask();
    assert!(neighbours().contains("lladdr"), "{}", neighbours());
    world.stop();
    world.start();
    start(&mut world);
    assert_eq!(loaded(&world), [vip]);
    world.apply([Event::ServiceGone(NamespacedName::new("shop", "web"))]);
    assert!(loaded(&world).is_empty());
}
