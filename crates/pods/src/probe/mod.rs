//! Liveness, readiness and startup probes with the kubelet's semantics.
//!
//! `state` decides (pure), `send` does one attempt, `worker` ties them to time.

mod dial;
mod fetch;
mod grpc;
mod http;
mod send;
mod spec;
mod state;
mod worker;

pub(crate) use fetch::{Fetch, FetchError, Fetcher};
pub use send::{Outcome, Prober, Subject};
pub use spec::{Handler, HttpGet, Kind, ProbeSpec};
pub use state::{Container, Machine, Pace, Report, Tick};
pub use worker::{ProbeTasks, Seen, Situation, Told};
