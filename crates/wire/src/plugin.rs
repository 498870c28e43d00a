//! The thin CNI plugin asks the agent of its node; one request and one reply a connection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cni::{CniError, CniResult, NetConf};

/// What the runtime asked of the plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; empty on a DEL after the namespace is gone.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`, split (`K8S_POD_NAMESPACE`, `K8S_POD_NAME`, `K8S_POD_UID`).
    pub args: BTreeMap<String, String>,
    /// The configuration on standard input.
    pub config: NetConf,
}

/// Commands that need the agent (VERSION is answered by the plugin itself).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    /// Wire a container.
    Add,
    /// Unwire it.
    Del,
    /// Is everything still there that ADD made?
    Check,
    /// Unwire every container that the runtime does not name.
    Gc,
    /// Is the plugin able to serve ADD?
    Status,
}

/// The agent's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// ADD succeeded.
    Added(CniResult),
    /// DEL, CHECK, GC or STATUS succeeded.
    Done,
    /// It failed; to be printed as it is.
    Failed(CniError),
}
