//! Liveness, readiness and startup probes with the kubelet's semantics.
//!
//! `state` decides (pure), `send` does one attempt, `worker` ties them to time.

mod dial;
mod grpc;
mod http;
mod send;
mod spec;
mod state;
mod worker;

pub use send::{Outcome, Prober};
pub use spec::{Handler, HttpGet, Kind, ProbeSpec};
pub use state::{Container, Machine, Report, Tick};
pub use worker::{ProbeTasks, Seen, Situation};
