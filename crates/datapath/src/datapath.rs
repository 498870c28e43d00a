use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;

use crate::filter::{self, Filter};
use crate::generations::{Stale, slot_of_host};
use crate::link::{self, Hook, Target};
use crate::loader::{self, Programs, Sizes, address, wire};
use crate::maps::Maps;
use crate::namespaces::Namespaces;
use crate::pins::Pins;
use crate::policy::{self, Mirror, Writer};
use crate::routes::{self, Routes};
use crate::skel::{Plain, types};
use crate::{
    Config, DropReason, Endpoint, Error, EventSource, Flow, NodeRoute, Result, Stats, Sweep, Translation, check,
    flows, services, sys, translations,
};

pub(crate) const FROM_UPLINK: Hook =
    Hook { program: "from_uplink", attach_type: libbpf_sys::BPF_TCX_INGRESS };
pub(crate) const FROM_OVERLAY: Hook =
    Hook { program: "from_overlay", attach_type: libbpf_sys::BPF_TCX_INGRESS };
/// What a pod sends is what its link's host side receives.
pub(crate) const POD: [Filter; 2] = [
    Filter { program: "to_pod", side: libbpf_sys::BPF_TC_EGRESS },
    Filter { program: "from_pod", side: libbpf_sys::BPF_TC_INGRESS },
];
pub(crate) const SOCKETS: [Hook; 9] = [
    Hook { program: "connect4", attach_type: libbpf_sys::BPF_CGROUP_INET4_CONNECT },
    Hook { program: "connect6", attach_type: libbpf_sys::BPF_CGROUP_INET6_CONNECT },
    Hook { program: "sendmsg4", attach_type: libbpf_sys::BPF_CGROUP_UDP4_SENDMSG },
    Hook { program: "sendmsg6", attach_type: libbpf_sys::BPF_CGROUP_UDP6_SENDMSG },
    Hook { program: "recvmsg4", attach_type: libbpf_sys::BPF_CGROUP_UDP4_RECVMSG },
    Hook { program: "recvmsg6", attach_type: libbpf_sys::BPF_CGROUP_UDP6_RECVMSG },
    Hook { program: "getpeername4", attach_type: libbpf_sys::BPF_CGROUP_INET4_GETPEERNAME },
    Hook { program: "getpeername6", attach_type: libbpf_sys::BPF_CGROUP_INET6_GETPEERNAME },
    Hook { program: "on_tcp", attach_type: libbpf_sys::BPF_CGROUP_SOCK_OPS },
];
const SWEEP: &str = "sweep_flows";

/// The data plane of one node, loaded and attached.
///
/// Methods that attach (`open`, `attach_pod`, `apply_services` when tables grow) use the calling thread's network namespace, which
/// must be the node's.
#[derive(Debug)]
pub struct Datapath {
    pub(crate) config: Config,
    pins: Pins,
    pub(crate) maps: Maps,
    pub(crate) programs: Programs,
    mirror: Mirror,
    routes: Routes,
    pub(crate) namespaces: Namespaces,
    pub(crate) service_rows: services::Counts,
    /// By the index of their link.
    pub(crate) endpoints: BTreeMap<u32, Endpoint>,
    last_sweep: Sweep,
}

impl Datapath {
    /// Whether this process on this machine can run the data plane; the error says what is missing.
    pub fn check() -> Result<()> {
        check::check()
    }

    /// Loads the programs, adopting what is pinned, and attaches the hooks of the node itself
    /// (uplink and cgroup). Hooks of pods that are pinned go over to the new programs.
    pub fn open(config: Config) -> Result<Self> {
        check::check()?;
        let pins = Pins::create(&config.pin_dir)?;
        let (maps, programs) = loader::load(&config, &pins, None)?;
        policy::lay_floor(&maps)?;
        let mirror = Mirror::read(&maps)?;
        let routes = Routes::read(&maps)?;
        let namespaces = Namespaces::read(&maps)?;
        let endpoints = read_endpoints(&maps)?.into_iter().map(|pod| (pod.ifindex, pod)).collect();
        let service_rows = services::Counts::read(&maps)?;
        let last_sweep = Sweep::default();
        let mut datapath =
            Self { config, pins, maps, programs, mirror, routes, namespaces, service_rows, endpoints, last_sweep };
        datapath.attach()?;
        datapath.sweep_flows()?;
        Ok(datapath)
    }

    /// Makes every hook of the node, and of pods that have some, run the programs just loaded.
    fn attach(&self) -> Result<()> {
        self.adopt_pods()?;
        let cgroup = Target::cgroup(&self.config.cgroup)?;
        for hook in SOCKETS {
            self.ensure(hook.program, hook, &cgroup)?;
        }
        for (hook, ifindex) in self.links() {
            self.ensure(hook.program, hook, &Target::Interface(ifindex))?;
        }
        Ok(())
    }

    /// The hooks of the node's own links.
    pub(crate) fn links(&self) -> impl Iterator<Item = (Hook, u32)> {
        let overlay = self.config.overlay.map(|overlay| (FROM_OVERLAY, overlay.ifindex));
        [(FROM_UPLINK, self.config.uplink_ifindex)].into_iter().chain(overlay)
    }

    pub(crate) fn maps(&self) -> &Maps {
        &self.maps
    }

    fn ensure(&self, pin: &str, hook: Hook, target: &Target) -> Result<()> {
        link::ensure(&self.pins.link(pin), hook, self.programs.get(hook.program)?, target)
    }

    /// Gives the pods' hooks the programs just loaded. A link that is gone needs none: its endpoint
    /// goes when the agent has found out.
    fn adopt_pods(&self) -> Result<()> {
        let mut there = self.endpoints.keys().filter(|ifindex| filter::exists(**ifindex));
        there.try_for_each(|ifindex| self.attach_filters(*ifindex))
    }

    fn attach_filters(&self, ifindex: u32) -> Result<()> {
        filter::prepare(ifindex)?;
        POD.into_iter().try_for_each(|it| filter::attach(ifindex, it, self.programs.get(it.program)?))
    }

    /// Attaches the hooks to a pod's link, which should still be down, and loads its addresses. The
    /// link passes nothing before this; afterwards only what policy rows allow.
    pub fn attach_pod(&mut self, endpoint: Endpoint) -> Result<()> {
        if self.endpoints.get(&endpoint.ifindex) != Some(&endpoint) {
            self.make_room(&endpoint)?;
        }
        self.attach_filters(endpoint.ifindex)?;
        if self.endpoints.contains_key(&endpoint.ifindex) {
            return Ok(());
        }
        for address in &endpoint.addresses {
            let row = types::endpoint {
                ifindex: endpoint.ifindex,
                slot: slot_of_host(*address),
                mac: endpoint.mac,
                ..Default::default()
            };
            self.maps.endpoints.put(&wire(*address), &row)?;
        }
        self.endpoints.insert(endpoint.ifindex, endpoint);
        Ok(())
    }

    /// Takes away what others, or this link before, have of an endpoint that is to come.
    fn make_room(&mut self, endpoint: &Endpoint) -> Result<()> {
        let mut leaving = endpoint.addresses.clone();
        leaving.extend(self.endpoints.get(&endpoint.ifindex).into_iter().flat_map(|pod| &pod.addresses));
        self.detach_pod(&leaving)
    }

    /// Cuts these addresses off and purges their flows: all of a pod's, as a rule. Its hooks stay,
    /// passing nothing, until the link is deleted. Addresses that no pod has are none to cut off.
    pub fn detach_pod(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        for address in addresses {
            let Some(pod) = self.endpoints.values_mut().find(|pod| pod.addresses.contains(address)) else {
                continue;
            };
            self.maps.endpoints.remove(&wire(*address))?;
            self.namespaces.forget(&self.maps, [*address])?;
            pod.addresses.remove(address);
            self.run_sweep(wire(*address))?;
        }
        self.endpoints.retain(|_, pod| !pod.addresses.is_empty());
        Ok(())
    }

    /// What of a pod's attachment the kernel does not hold, in words: its rows, or a hook of its link.
    pub fn missing_of(&self, endpoint: &Endpoint) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        let loaded = self.endpoints()?;
        let has = |address| {
            loaded.iter().any(|pod| {
                (pod.ifindex, pod.mac) == (endpoint.ifindex, endpoint.mac) && pod.addresses.contains(address)
            })
        };
        for address in endpoint.addresses.iter().filter(|address| !has(address)) {
            missing.push(format!("the endpoint row of {address}"));
        }
        for hook in POD {
            if !filter::is_attached(endpoint.ifindex, hook, self.programs.get(hook.program)?)? {
                missing.push(format!("the hook {}", hook.program));
            }
        }
        Ok(missing)
    }

    /// The pods that are attached.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        read_endpoints(&self.maps)
    }

    /// Applies the writes of a plan, in order. Live flows whose decision may have changed are
    /// judged again with their next packet.
    pub fn apply_policy(&mut self, plan: &kilter_policy::Plan) -> Result<()> {
        let pods: Vec<_> = self.endpoints.values().flat_map(|pod| &pod.addresses).copied().collect();
        let mut writer =
            Writer { maps: &self.maps, mirror: &mut self.mirror, pods: &pods, stale: Stale::default() };
        writer.apply(plan)
    }

    /// Applies the writes of a plan, in order. Tables that are too small for it are replaced by
    /// larger ones first, without a connection noticing.
    pub fn apply_services(&mut self, plan: &kilter_services::Plan) -> Result<()> {
        if let Some(sizes) = self.service_rows.growth(&self.maps, plan) {
            self.grow(sizes)?;
        }
        self.service_rows.apply(&self.maps, plan)
    }

    /// Nothing is written meanwhile, so each program sees complete tables, the old or the new ones.
    fn grow(&mut self, sizes: Sizes) -> Result<()> {
        let (maps, programs) = loader::load(&self.config, &self.pins, Some(sizes))?;
        services::copy(&self.maps, &maps)?;
        (self.maps, self.programs) = (maps, programs);
        self.attach()?;
        loader::replace_pin(self.maps.frontends.as_fd(), &self.pins.map("frontends"))?;
        loader::replace_pin(self.maps.chunks.as_fd(), &self.pins.map("chunks"))?;
        loader::replace_pin(self.maps.backends.as_fd(), &self.pins.map("backends"))
    }

    /// Makes these the routes to the other nodes' pods, instead of those before.
    pub fn set_routes(&mut self, routes: &[NodeRoute]) -> Result<()> {
        self.routes.set(&self.maps, routes)
    }

    /// The policy rows that the kernel holds; `rules` is empty, it never gets there.
    pub fn read_policy(&self) -> Result<kilter_policy::Tables> {
        policy::read(&self.maps)
    }

    /// The Service rows that the kernel holds.
    pub fn read_services(&self) -> Result<kilter_services::Tables> {
        services::read(&self.maps)
    }

    /// The routes that the kernel holds.
    pub fn read_routes(&self) -> Result<Vec<NodeRoute>> {
        routes::read(&self.maps)
    }

    /// The flows that the kernel holds, as they were when each was read.
    pub fn read_flows(&self) -> Result<Vec<Flow>> {
        flows::read(&self.maps)
    }

    /// Both directions of the connections that are translated per packet.
    pub fn read_translations(&self) -> Result<Vec<Translation>> {
        translations::read(&self.maps)
    }

    /// Removes the flows that have aged. To be called every few seconds; the kernel's clock decides.
    pub fn sweep_flows(&mut self) -> Result<Sweep> {
        self.last_sweep = self.run_sweep(types::address::default())?;
        Ok(self.last_sweep)
    }

    /// Whether the last sweep left more than half of the flow table in use.
    pub fn is_crowded(&self) -> bool {
        self.last_sweep.live > u64::from(self.config.max_flows) / 2
    }

    /// `purge`: an address whose flows all go, `::` for none.
    pub(crate) fn run_sweep(&self, purge: types::address) -> Result<Sweep> {
        let mut context = types::sweep { purge, ..Default::default() }.bytes().to_vec();
        let failed = |source| Error::Run { program: SWEEP, source };
        sys::run(self.programs.get(SWEEP)?, &mut context).map_err(failed)?;
        let swept = types::sweep::from_bytes(&context).unwrap_or_default();
        let [live, removed, translations] = [swept.live, swept.removed, swept.translations].map(u64::from);
        Ok(Sweep { live, removed, translations })
    }

    /// Counters and table sizes. Flows are as many as the last sweep left.
    pub fn stats(&self) -> Result<Stats> {
        let cpus = check::possible_cpus()?;
        let sum = |values: Vec<u64>| values.into_iter().sum::<u64>();
        let mut stats = Stats::default();
        for reason in DropReason::ALL {
            let dropped = sum(self.maps.drops.get_per_cpu(&reason.number(), cpus)?);
            if dropped > 0 {
                stats.drops.insert(*reason, dropped);
            }
        }
        let counter = |which: types::counter| self.maps.counters.get_per_cpu(&which.0, cpus).map(sum);
        stats.flows_opened = counter(types::counter::COUNT_FLOWS_OPENED)?;
        stats.events_lost = counter(types::counter::COUNT_EVENTS_LOST)?;
        stats.resets = counter(types::counter::COUNT_RESETS)?;
        stats.retried = counter(types::counter::COUNT_RETRIED)?;
        stats.tables = BTreeMap::from([
            ("flows", self.last_sweep.live),
            ("translations", self.last_sweep.translations),
            ("endpoints", self.endpoints.values().map(|pod| pod.addresses.len() as u64).sum()),
            ("classes", self.mirror.classes() as u64),
            ("routes", self.routes.len() as u64),
            ("postures", self.maps.postures.keys()?.len() as u64),
            ("intervals", self.maps.intervals.keys()?.len() as u64),
            ("sets", self.maps.sets.keys()?.len() as u64),
            ("frontends", self.maps.frontends.keys()?.len() as u64),
            ("backends", self.maps.backends.keys()?.len() as u64),
        ]);
        Ok(stats)
    }

    /// Whether allowed flows are reported too when they open. Off by default.
    pub fn report_flows(&mut self, on: bool) -> Result<()> {
        self.maps.settings.put(&0, &types::settings { report_flows: on.into() })
    }

    /// The reader of drops and of opened flows.
    pub fn events(&self) -> Result<EventSource> {
        EventSource::new(&self.pins.map("events"))
    }
}

/// Rows of one link are one pod's.
fn read_endpoints(maps: &Maps) -> Result<Vec<Endpoint>> {
    let mut pods: BTreeMap<u32, Endpoint> = BTreeMap::new();
    for (key, row) in maps.endpoints.rows()? {
        let fresh = || Endpoint { ifindex: row.ifindex, addresses: BTreeSet::new(), mac: row.mac };
        pods.entry(row.ifindex).or_insert_with(fresh).addresses.insert(address(key));
    }
    Ok(pods.into_values().collect())
}
