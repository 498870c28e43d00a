//! Services, links, routes, settings and hooks, row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kilter_model::{Protocol, Routing};
use kilter_policy::ProtocolClass;
use kilter_services::{Announcements, Compiler, Frontend, Scope};
use kilter_wire::loaded::{Route, Translation};

use super::{Finding, Proof, Subject, View};

pub(super) fn find(proof: &mut Proof, subject: Subject, what: String) {
    proof.findings.push(Finding { subject, what, packet: None });
}

/// Each frontend must lead to exactly its backends; under which revision is nobody's business.
pub(super) fn services(view: &View<'_>, proof: &mut Proof) {
    let routing = if view.expected.tunnel.is_some() { Routing::Vxlan } else { Routing::Native };
    let mut compiler = Compiler::new(view.expected.node.as_str().into()).routed(routing);
    compiler.update(view.cluster, &[]);
    let wanted = &compiler.tables().frontends;
    let loaded: BTreeMap<Frontend, _> =
        view.loaded.frontends.iter().filter_map(|it| Some((frontend(it)?, it))).collect();
    proof.compared.insert("Service ports", loaded.len() as u64);
    for (at, row) in wanted {
        let all = compiler.tables().backends_of(at).unwrap_or_default();
        let slots: Vec<SocketAddr> = all.into_iter().map(|it| SocketAddr::new(it.address, it.port)).collect();
        let wanted: BTreeSet<SocketAddr> = slots.iter().copied().collect();
        let Some(found) = loaded.get(at) else {
            let what = format!("{at} has no row, and should lead to {}", list(&wanted));
            find(proof, Subject::Service, what);
            continue;
        };
        let backends: BTreeSet<SocketAddr> = found.backends.iter().copied().collect();
        if backends != wanted {
            let what = format!("{at} leads to {}, and should to {}", list(&backends), list(&wanted));
            find(proof, Subject::Service, what);
        } else if found.count as usize != found.backends.len() {
            let there = found.backends.len();
            let what = format!("{at} counts {} backends, of which {there} are there", found.count);
            find(proof, Subject::Service, what);
        } else if sorted(&found.backends) != sorted(&slots) {
            find(proof, Subject::Service, format!("{at} leads to its backends by other weights than it should"));
        } else if found.flags != row.flags.to_string() {
            let what = format!("{at} is marked ({}), and should be ({})", found.flags, row.flags);
            find(proof, Subject::Service, what);
        } else if found.affinity != row.affinity {
            let what = format!("{at} keeps clients for {} s, and should for {} s", found.affinity, row.affinity);
            find(proof, Subject::Service, what);
        } else if found.table != compiler.tables().table_of(row) {
            find(proof, Subject::Service, format!("{at} sends clients to its backends by another table than it should"));
        } else if let Some(what) = other_clients(found, &compiler.tables().sources_of(row.revision)) {
            find(proof, Subject::Service, format!("{at} {what}"));
        }
    }
    for at in loaded.keys().filter(|at| !wanted.contains_key(at)) {
        find(proof, Subject::Service, format!("{at} has a row, and no Service has this port"));
    }
}

/// With those that occur several times, by their weight.
fn sorted(backends: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut sorted = backends.to_vec();
    sorted.sort_unstable();
    sorted
}

/// How the clients that a frontend serves differ from those that it should.
fn other_clients(found: &kilter_wire::loaded::Frontend, wanted: &BTreeSet<IpNet>) -> Option<String> {
    let loaded: BTreeSet<IpNet> =
        found.sources.iter().filter_map(|(address, length)| IpNet::new(*address, *length).ok()).collect();
    let text = |ranges: &BTreeSet<IpNet>| match ranges.is_empty() {
        true => "none".to_owned(),
        false => ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    (loaded != *wanted).then(|| format!("has the source ranges {}, and should {}", text(&loaded), text(wanted)))
}

/// A load balancer's address has one node that answers for it.
pub(super) fn announced(view: &View<'_>, proof: &mut Proof) {
    let mut announcements =
        Announcements::new(view.expected.node.as_str().into(), view.expected.lb_pools.clone());
    announcements.update(view.cluster, &[]);
    let (wanted, loaded) = (announcements.owned(), view.loaded.announced.iter().copied().collect::<BTreeSet<_>>());
    proof.compared.insert("announced addresses", loaded.len() as u64);
    for address in wanted.difference(&loaded) {
        find(proof, Subject::Service, format!("the node does not answer for {address} on the node network, and should"));
    }
    for address in loaded.difference(&wanted) {
        find(proof, Subject::Service, format!("the node answers for {address} on the node network, and should not"));
    }
}

/// `None` for a protocol that no Service has: the data plane reads no such row back.
fn frontend(row: &kilter_wire::loaded::Frontend) -> Option<Frontend> {
    Some(Frontend {
        address: row.at.ip(),
        port: row.at.port(),
        protocol: Protocol::from_number(row.protocol)?,
        scope: if row.outside { Scope::Outside } else { Scope::Inside },
    })
}

fn list(backends: &BTreeSet<SocketAddr>) -> String {
    if backends.is_empty() {
        return "nothing".into();
    }
    backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Every pod has its link and every link its pod: nothing passes a link that is not known, and
/// nothing leads to a pod without one.
pub(super) fn endpoints(view: &View<'_>, proof: &mut Proof) {
    let loaded: BTreeMap<IpAddr, _> = view.loaded.endpoints.iter().map(|it| (it.address, it)).collect();
    let links: BTreeMap<u32, _> = view.loaded.links.iter().map(|link| (link.index, link)).collect();
    proof.compared.insert("pod links", links.len() as u64);
    let mut held = BTreeSet::new();
    for pod in view.local_pods() {
        for address in &pod.addresses {
            held.insert(*address);
            if pod.owns_addresses() && !loaded.contains_key(address) {
                let what = format!("pod {} has no endpoint row: nothing passes its link", view.name(*address));
                find(proof, Subject::Endpoint, what);
            }
        }
    }
    for (address, endpoint) in &loaded {
        let name = view.name(*address);
        if !held.contains(address) {
            find(proof, Subject::Endpoint, format!("{address} has an endpoint row, and no pod of this node has it"));
        }
        match links.get(&endpoint.link) {
            None => {
                let what = format!("{name} is said to be behind link {}, which is no pod's link", endpoint.link);
                find(proof, Subject::Endpoint, what);
            }
            Some(link) if !link.up => {
                find(proof, Subject::Endpoint, format!("link {} of {name} is down", link.name));
            }
            Some(link) if link.mtu != view.expected.pod_mtu => {
                let (mtu, wanted) = (link.mtu, view.expected.pod_mtu);
                let what = format!("link {} of {name} has an MTU of {mtu}, and should have {wanted}", link.name);
                find(proof, Subject::Endpoint, what);
            }
            Some(_) => {}
        }
    }
    let used: BTreeSet<u32> = loaded.values().map(|it| it.link).collect();
    for link in links.values().filter(|link| !used.contains(&link.index)) {
        find(proof, Subject::Endpoint, format!("link {} is a pod's, and no endpoint row names it", link.name));
    }
}

/// A translated connection has a row for each direction, and each leads back to the other. One that is sent on has
/// a single row, to a pod of another node.
pub(super) fn translations(view: &View<'_>, proof: &mut Proof) {
    let turned = |(source, destination): (SocketAddr, SocketAddr)| (destination, source);
    let (alone, both): (Vec<&Translation>, Vec<&Translation>) = view.loaded.translations.iter().partition(|it| it.sent_on);
    let loaded: BTreeMap<_, _> = both.into_iter().map(|it| ((it.protocol, it.from), it.to)).collect();
    proof.compared.insert("translations", view.loaded.translations.len() as u64);
    for it in alone {
        if let Some(what) = wrongly_sent_on(view, it) {
            let protocol = ProtocolClass::of(it.protocol);
            let what = format!("{} -> {} over {protocol} is sent on as it comes to {}, {what}", it.from.0, it.from.1, it.to.1);
            find(proof, Subject::Flow, what);
        }
    }
    for ((protocol, from), to) in &loaded {
        let back = loaded.get(&(*protocol, turned(*to)));
        if back.is_some_and(|back| *back == turned(*from)) {
            continue;
        }
        let (what, protocol) = (format!("{} -> {}", from.0, from.1), ProtocolClass::of(*protocol));
        let found = match back {
            None => "and what comes back is not".to_owned(),
            Some((source, destination)) => format!("and what comes back becomes {source} -> {destination}"),
        };
        find(proof, Subject::Flow, format!("{what} over {protocol} becomes {} -> {}, {found}", to.0, to.1));
    }
}

/// Why packets should not go on to where they do as they come.
fn wrongly_sent_on(view: &View<'_>, row: &Translation) -> Option<&'static str> {
    let contains = |blocks: &[IpNet], address: IpAddr| blocks.iter().any(|block| block.contains(&address));
    let own = view.cluster.nodes().find(|node| *node.name == *view.expected.node);
    let (client, backend) = (row.to.0, row.to.1.ip());
    if client != row.from.0 {
        return Some("under another address than its own");
    }
    if view.expected.tunnel.is_some() {
        return Some("past the tunnel");
    }
    if own.is_some_and(|node| contains(&node.pod_cidrs, backend)) {
        return Some("which is a pod of this node");
    }
    (!contains(&view.expected.pod_cidrs, backend)).then_some("which is no pod, so its node would not know the Service")
}

/// The node's own blocks are refused where no pod has the address, and nothing else in the pod network is.
pub(super) fn refusals(view: &View<'_>, proof: &mut Proof) {
    let own = view.cluster.nodes().find(|node| *node.name == *view.expected.node);
    let blocks = own.into_iter().flat_map(|node| &node.pod_cidrs);
    let wanted: BTreeSet<(IpNet, &str)> = blocks.map(|block| (block.trunc(), "unreachable")).collect();
    let rows = view.loaded.refusals.iter();
    let loaded: BTreeSet<(IpNet, &str)> =
        rows.filter_map(|it| Some((IpNet::new(it.to.0, it.to.1).ok()?, it.kind.as_str()))).collect();
    for (to, _) in wanted.difference(&loaded) {
        let what = format!("the kernel does not make {to} unreachable where no pod has the address");
        find(proof, Subject::Route, what);
    }
    for (to, kind) in loaded.difference(&wanted) {
        find(proof, Subject::Route, format!("the kernel has a route `{kind} {to}`, which should not be there"));
    }
}

pub(super) fn routes(view: &View<'_>, proof: &mut Proof) {
    let row = |route: &Route| {
        IpNet::new(route.to.0, route.to.1).ok().map(|to| (to, Way { via: route.via, tunnel: route.tunnel }))
    };
    let blocks = view.expected.routes.iter().map(|(to, via)| (*to, *via));
    let plain = |via| Way { via: Some(via), tunnel: None };
    // The data plane alone must know that other nodes' own addresses are inside the cluster.
    let others = view.cluster.nodes().filter(|node| *node.name != *view.expected.node);
    let to_nodes = others.flat_map(|node| {
        let end = node.addresses.first().filter(|_| view.expected.tunnel.is_some());
        node.addresses.iter().map(move |it| (IpNet::from(*it), plain(*end.unwrap_or(it))))
    });
    let wanted: Routes = blocks.clone().map(|(to, via)| (to, plain(via))).chain(to_nodes).collect();
    let loaded: Routes = view.loaded.routes.iter().filter_map(row).collect();
    proof.compared.insert("routes", (view.loaded.routes.len() + view.loaded.kernel_routes.len()) as u64);
    differ(proof, "the data plane", &wanted, &loaded);

    let own = view.loaded.endpoints.iter().map(|it| (IpNet::from(it.address), Way::default()));
    let led = blocks.map(|(to, via)| (to, Way { via: Some(via), tunnel: view.expected.tunnel }));
    let wanted: Routes = led.chain(own).collect();
    let loaded: Routes = view.loaded.kernel_routes.iter().filter_map(row).collect();
    differ(proof, "the kernel", &wanted, &loaded);
    let links: BTreeMap<IpAddr, u32> = view.loaded.endpoints.iter().map(|it| (it.address, it.link)).collect();
    for route in view.loaded.kernel_routes.iter().filter(|route| route.via.is_none()) {
        if links.get(&route.to.0).is_some_and(|link| Some(*link) != route.link) {
            let what = format!("the kernel leads to {} over a link that is another's", view.name(route.to.0));
            find(proof, Subject::Route, what);
        }
    }
}

/// Where a route leads: to a next hop, through a tunnel or not, or over a pod's own link.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    via: Option<IpAddr>,
    tunnel: Option<u32>,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.via, self.tunnel) {
            (Some(via), Some(number)) => write!(f, " through tunnel {number} to {via}"),
            (Some(via), None) => write!(f, " via {via}"),
            (None, _) => f.write_str(" over a pod's link"),
        }
    }
}

type Routes = BTreeSet<(IpNet, Way)>;

fn differ(proof: &mut Proof, whose: &str, wanted: &Routes, loaded: &Routes) {
    for (to, way) in wanted.difference(loaded) {
        find(proof, Subject::Route, format!("{whose} has no route to {to}{way}"));
    }
    for (to, way) in loaded.difference(wanted) {
        find(proof, Subject::Route, format!("{whose} has a route to {to}{way}, which should not be there"));
    }
}

pub(super) fn settings(view: &View<'_>, proof: &mut Proof) {
    *proof.compared.entry("settings").or_default() += view.expected.settings.len() as u64;
    for (name, wanted) in &view.expected.settings {
        let found = view.loaded.settings.get(name).map_or("nothing", String::as_str);
        if found != wanted {
            find(proof, Subject::Setting, format!("{name} is `{found}`, and should be `{wanted}`"));
        }
    }
}

pub(super) fn hooks(view: &View<'_>, proof: &mut Proof) {
    proof.compared.insert("hooks", view.loaded.hooks_checked);
    for what in &view.loaded.hooks {
        find(proof, Subject::Hook, what.clone());
    }
}
