//! The Kubernetes API, as Kilter uses it: watches in, objects and status out.
//!
//! Everything here is a plain client of the API, so it works the same against the embedded API of
//! a twin and against a real cluster. Translation into the model is `objects`' business.

#![forbid(unsafe_code)]

mod apply;
mod backoff;
mod connect;
mod declared;
mod error;
mod feed;
mod lean;
mod lean_pod;
mod merge;
mod record;
mod resource;
mod snapshot;
mod status;

pub use apply::{Applied, Discovered, Discovery, apply, delete};
pub use backoff::{Backoff, watch_kind, watch_some};
pub use connect::{connect, connect_context, install_crypto};
pub use declared::declared;
pub use error::Error;
pub use feed::{Feed, Update, watch, watch_as_node};
pub use kube::Client;
pub use lean::Lean;
pub use record::{Recorder, Severity};
pub use resource::Resource;
pub use snapshot::snapshot;
pub use status::{confirm_deleted, patch_node_status, patch_pod_status};
