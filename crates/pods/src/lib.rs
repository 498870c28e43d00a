//! The twin's kubelet: pod sandboxes, stand-ins for containers, probes, pod status, and the
//! kubelet's HTTP API.
//!
//! [`Pods::start`] runs it all inside the node process; everything that it makes for a pod is
//! owned by that pod's task (`sync`), and recorded on disk so that a restarted node goes on with
//! it or clears it away.

mod annotations;
mod cgroup;
pub mod cni;
mod config;
mod container;
mod dial;
mod environment;
mod handle;
mod hostports;
mod kubelet_api;
mod lease;
mod life;
mod logs;
mod node;
pub mod probe;
mod program;
mod registry;
mod run;
pub mod sandbox;
mod services;
pub mod standin;
mod status;
mod sync;
mod version;
mod volumes;

pub use config::{Builtin, BuiltinPod, Config, KubeletApi, StandInAuthority, Stop};
pub use dial::from_pod as dial;
pub use handle::{Handle, Pods};
pub use sandbox::Dns;
pub use version::KUBELET_VERSION;

/// An error and everything underneath it, on one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
