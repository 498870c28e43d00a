use serde::{Deserialize, Serialize};

use crate::Family;

/// How packets of pods travel from node to node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// As they are: the network between the nodes has a route to each node's pods.
    #[default]
    Native,
    /// In VXLAN between the nodes' first addresses: the network between the nodes knows only nodes.
    Vxlan,
}

impl Routing {
    /// What this takes of the MTU of a link, in bytes, where nodes have addresses of this family: inner
    /// Ethernet, VXLAN, UDP and outer IP headers.
    pub const fn overhead(self, nodes: Family) -> u32 {
        match (self, nodes) {
            (Routing::Native, _) => 0,
            (Routing::Vxlan, Family::V4) => 14 + 8 + 8 + 20,
            (Routing::Vxlan, Family::V6) => 14 + 8 + 8 + 40,
        }
    }
}
