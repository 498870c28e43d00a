use std::net::Ipv4Addr;

use crate::{Config, Endpoint, Error, EventSource, NodeRoute, Result, Stats, Sweep};

/// The data plane of one node, loaded and attached.
///
/// Methods that attach (`open`, `attach_pod`) use the calling thread's network namespace, which
/// must be the node's.
#[derive(Debug)]
pub struct Datapath {
    config: Config,
}

impl Datapath {
    /// Whether this process on this machine can run the data plane; the error says what is missing.
    pub fn check() -> Result<()> {
        Ok(())
    }

    /// Loads the programs, adopting what is pinned, and attaches the hooks of the node itself
    /// (uplink and cgroup). Hooks of pods that are pinned go over to the new programs.
    pub fn open(config: Config) -> Result<Self> {
        Ok(Self { config })
    }

    /// Attaches the hooks to a pod's link, which should still be down, and loads its endpoint. The
    /// link passes nothing before this; afterwards only what policy rows allow.
    pub fn attach_pod(&mut self, _endpoint: Endpoint) -> Result<()> {
        Ok(())
    }

    /// Cuts a pod off and purges its flows. Its hooks stay, passing nothing, until the link is
    /// deleted. Nothing happens when there is no such pod.
    pub fn detach_pod(&mut self, _address: Ipv4Addr) -> Result<()> {
        Ok(())
    }

    /// The pods that are attached.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        Ok(Vec::new())
    }

    /// Applies the writes of a plan, in order. Live flows whose decision may have changed are
    /// judged again with their next packet.
    pub fn apply_policy(&mut self, _plan: &kilter_policy::Plan) -> Result<()> {
        Ok(())
    }

    /// Applies the writes of a plan, in order.
    pub fn apply_services(&mut self, _plan: &kilter_services::Plan) -> Result<()> {
        Ok(())
    }

    /// Makes these the routes to the other nodes' pods, instead of those before.
    pub fn set_routes(&mut self, _routes: &[NodeRoute]) -> Result<()> {
        Ok(())
    }

    /// The policy rows that the kernel holds; `rules` is empty, it never gets there.
    pub fn read_policy(&self) -> Result<kilter_policy::Tables> {
        Ok(Default::default())
    }

    /// The Service rows that the kernel holds.
    pub fn read_services(&self) -> Result<kilter_services::Tables> {
        Ok(Default::default())
    }

    /// The routes that the kernel holds.
    pub fn read_routes(&self) -> Result<Vec<NodeRoute>> {
        Ok(Vec::new())
    }

    /// Removes the flows that have aged, and the pins of hooks whose link is gone. To be called
    /// every few seconds; the kernel's clock decides.
    pub fn sweep_flows(&mut self) -> Result<Sweep> {
        Ok(Sweep::default())
    }

    /// Counters and table sizes.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats::default())
    }

    /// Whether allowed flows are reported too when they open. Off by default.
    pub fn report_flows(&mut self, _on: bool) -> Result<()> {
        Ok(())
    }

    /// The reader of drops and of opened flows.
    pub fn events(&self) -> Result<EventSource> {
        Err(Error::Config(format!("{} is not loaded", self.config.node_name)))
    }
}
