//! The figures: what Kilter costs, beside its peers, on the same machine and in the same run.
//!
//! * [`datapath`]: latency and throughput between pods.
//! * [`cni`]: wiring and unwiring a pod.
//! * [`policy`]: answering for a large cluster, and keeping a node's rows in step.
//! * [`services`]: one of many Services, and changes of them; and a load for minutes.
//! * [`api`]: requests, events of watches, `kubectl apply`.
//! * [`twin`]: bringing a whole twin up, and its memory.
//!
//! [`engine`] runs kinds of [`work`] over subjects in turn. Whatever a benchmark makes on the
//! machine goes away with it, also when it fails.

#![forbid(unsafe_code)]

pub mod api;
pub mod cni;
mod crowd;
pub mod datapath;
pub mod engine;
mod figure;
pub mod kilter;
pub mod lab;
pub mod machine;
mod memory;
pub mod peers;
pub mod place;
pub mod policy;
mod running;
pub mod services;
pub mod statistics;
pub mod twin;
pub mod work;

pub use figure::{Figure, Report};
