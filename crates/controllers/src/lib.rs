//! What makes a cluster's declarations come true: workloads become pods, pods get nodes, Services
//! get endpoints.
//!
//! Each controller is a client of the API and nothing else, so all of them also run against a real
//! one. They share one watch per kind ([`cache`]), are woken by what happened and never by a
//! clock except where time itself is the condition (`minReadySeconds`, progress deadlines), and
//! look at the whole of an object each time: an event says where to look, not what to do.
//!
//! Pods stay with the owner they were made for: none is adopted or released. Owned objects of
//! what was deleted, namespaces and default ServiceAccounts are the API server's business.

#![forbid(unsafe_code)]

mod addresses;
mod cache;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod endpoints;
mod error;
mod expectations;
mod host_ports;
mod job;
mod loadbalancer;
mod node_fit;
mod nodelifecycle;
mod orphans;
mod parallel;
mod pods;
mod queue;
mod replicaset;
mod revisions;
mod run;
mod scheduler;
mod statefulset;
mod template;
mod verbs;

pub use error::Error;
pub use run::{Config, run};
