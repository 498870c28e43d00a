//! The agent of one node: what the cluster is, and what the kernel of this node holds because of it.
//!
//! * `view` keeps the cluster, with this node's own address assignments on top;
//! * `engine` is the one thread that compiles it into rows and writes them;
//! * `ipam` and `containers` hold addresses, on disk too;
//! * `cni_server` and `wiring` serve the CNI plugin; `reaper` deletes links afterwards;
//! * `announcer` answers for load balancers' addresses on the node network;
//! * `health` answers load balancers that ask whether this node has endpoints;
//! * `closer` ends the sockets that talk to backends which are gone;
//! * `overlay` and `routes` lead to other nodes' pods;
//! * `adopt`, `shift` and `difference` take over what a former process left.

#![forbid(unsafe_code)]

mod adopt;
mod agent;
mod announcer;
mod check;
mod closer;
mod cni_server;
mod command;
mod config;
mod containers;
mod difference;
mod endpoint;
mod engine;
mod health;
mod host;
mod ipam;
mod loaded;
mod observe;
mod overlay;
mod reaper;
mod routes;
mod rows;
mod sandboxes;
mod shift;
mod updates;
mod view;
mod wiring;

pub use agent::{Agent, Handle};
pub use config::Config;
pub use engine::Applied;
pub use loaded::{expected_links, expected_settings};
pub use overlay::{VNI, pod_mtu};
pub use routes::wanted as expected_routes;
pub use updates::{Follower, Updates};
