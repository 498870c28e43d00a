use kilter_model::{Change, Cluster};

use crate::{Plan, Tables};

/// Keeps the Service rows of a node in step with a cluster.
#[derive(Debug, Default)]
pub struct Compiler {
    tables: Tables,
}

impl Compiler {
    /// A compiler that has written nothing yet.
    pub fn new() -> Self {
        Self::default()
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
