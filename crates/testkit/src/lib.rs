//! What tests of several crates share: namespaces and mounts that clean up after themselves, a
//! check that nothing is left on the machine, packets, random clusters, and waiting for a condition.
//!
//! Everything here panics with a full sentence instead of returning errors: the callers are tests.

mod alone;
mod bpf;
mod cgroup;
mod corpus;
mod intruder;
mod manifest;
mod mounts;
mod namespaces;
mod packet;
pub mod random;
mod residue;
pub mod truth_tables;
mod wait;

pub use alone::{Alone, alone};
pub use cgroup::TestCgroup;
pub use corpus::corpus;
pub use intruder::Intruder;
pub use manifest::manifests;
pub use mounts::{BpfFs, TempDir, cgroup2_root};
pub use namespaces::TestNetNs;
pub use packet::Packet;
pub use residue::Residue;
pub use wait::{wait_for, wait_until};
