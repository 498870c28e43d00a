use std::sync::Arc;

use ipnet::IpNet;
use kilter_model::{Change, Cluster};

use crate::{Plan, Tables};

/// What a compiler needs to know about its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node's name: its pods get postures.
    pub node: Arc<str>,
    /// The cluster's pod blocks: addresses in them that no known pod holds are of class `unknown`.
    pub pod_cidrs: Vec<IpNet>,
}

/// Keeps the policy rows of one node in step with a cluster.
#[derive(Debug)]
pub struct Compiler {
    tables: Tables,
}

impl Compiler {
    /// A compiler that has written nothing yet.
    pub fn new(_config: Config) -> Self {
        Self { tables: Tables::default() }
    }

    /// Brings the rows in step with `cluster`, given what changed since the last call, and says
    /// how to get there. The first call compiles everything, whatever `changes` says.
    pub fn update(&mut self, _cluster: &Cluster, _changes: &[Change]) -> Plan {
        Plan::default()
    }

    /// The rows after the last update.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }
}
