//! ClusterNetworkPolicy in the kernel.

use kilter_model::{
    Action, ClusterNetworkPolicy, ClusterRule, ClusterTier, Event, Origin, Peer, PolicyRule, Selector,
    Subject,
};

use crate::world::{World, namespace, only_from, pod};
use crate::{SILENCE, talk};

/// A policy of one ingress rule, about and from every pod.
fn everywhere(name: &str, tier: ClusterTier, action: Action) -> Event {
    let all = Selector::default;
    let peers = Some(vec![Peer::Pods { namespaces: Some(all()), pods: all() }]);
    let matches = PolicyRule { peers, ports: None, origin: Origin::Builtin };
    Event::ClusterNetworkPolicy(ClusterNetworkPolicy {
        name: name.into(),
        tier,
        priority: 1,
        subject: Subject { namespaces: all(), pods: all() },
        ingress: vec![ClusterRule { name: None, action, matches, caveat: None }],
        egress: vec![],
        origin: Origin::Builtin,
    })
}

#[test]
fn tiers_decide_before_and_after_network_policy() {
    let mut world = World::new("tiers");
    world.apply([namespace("shop"), pod("web"), pod("db"), only_from("db", &[])]);
    let (web, db) = (world.add("web"), world.add("db"));
    let _listening = db.listen(9090);
    assert!(web.connect_within((db.address, 9090), SILENCE).is_err(), "isolated by a NetworkPolicy");

    world.apply([everywhere("admin", ClusterTier::Admin, Action::Accept)]);
    web.connect((db.address, 9090)).expect("Admin accepts before NetworkPolicy is asked");

    let mut drops = world.agent().drops();
    world.apply([everywhere("admin", ClusterTier::Admin, Action::Deny)]);
    assert!(web.connect_within((db.address, 9090), SILENCE).is_err());
    let drop = world.block_on(drops.recv()).unwrap();
    assert!(drop.rule.as_deref().unwrap_or_default().contains("ClusterNetworkPolicy admin"), "{drop:?}");

    // To `web` no NetworkPolicy applies, so what Admin passes comes to Baseline.
    world.apply([
        everywhere("admin", ClusterTier::Admin, Action::Pass),
        everywhere("base", ClusterTier::Baseline, Action::Deny),
    ]);
    let _listening = web.listen(9090);
    assert!(db.connect_within((web.address, 9090), SILENCE).is_err());
    world.apply([Event::ClusterNetworkPolicyGone("base".into())]);
    talk(&db, &web, 8080);
}
