//! The twin: a whole multi-node cluster network on one machine, in network namespaces.
//!
//! [`up`] makes a fabric, nodes and a control plane, applies the objects it is given and waits
//! until they run; [`down`] removes every trace, also after a crash at any point.

mod cgroup;
pub mod chaos;
mod client;
pub mod control_plane;
mod down;
mod fabric;
pub mod flows;
pub mod follow;
mod host;
pub mod internet;
mod kubeconfig;
mod lock;
mod mounts;
pub mod nodes;
mod paths;
mod pki;
mod pools;
mod process;
mod ready;
mod signal;
mod spec;
mod status;
pub mod supervisor;
mod system;
mod up;
mod why;

pub use client::NodeClient;
pub use down::{down, read_spec};
pub use fabric::{MTU, UPLINK};
pub use host::{MachineError, addresses, check, check_rights};
pub use paths::{Layout, ROOT, twins};
pub use pools::pools;
pub use process::say_ready;
pub use ready::{Readiness, WorkloadState};
pub use signal::Termination;
pub use spec::{NodePlan, Role, SpecError, TwinSpec, check_name};
pub use status::{NodeState, PodState, Status, is_running, running, status};
pub use system::dns_workload;
pub use up::{Step, Summary, UpOptions, up};

/// A request that cannot be served as it was put: a name that is taken, a twin that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
