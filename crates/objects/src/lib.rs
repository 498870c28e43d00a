//! Kubernetes kinds: into the model's vocabulary, defaulted, validated, patched.
//!
//! Everything here is pure. Analysis, the embedded API server and the controllers share these
//! functions, so that what is predicted is computed by the code that acts.

#![forbid(unsafe_code)]

mod api;
pub mod apply;
pub mod convert;
pub mod custom;
mod defaults;
pub mod endpoints;
mod error;
pub mod expand;
mod immutable;
pub mod kinds;
pub mod patch;
mod schedule;
pub mod schema;
mod shape;
mod validate;
pub mod value;

pub use api::ClusterNetworkPolicy;
pub use convert::{
    cluster_network_policy, endpoint_slice, forwarding, ingress, namespace, network_policy, node, owner, pod, pod_ports,
    selector, service, static_uid, to_event, to_gone_event,
};
pub use defaults::default;
pub use error::{Error, FieldError};
pub use expand::{expand, list_items, pod_template, pod_template_mut};
pub use immutable::changed;
pub use schedule::Schedule;
pub use shape::{EVENT_VIEW, fit, unknown_fields};
pub use validate::validate;
