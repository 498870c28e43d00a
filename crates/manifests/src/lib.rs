//! Files to Kubernetes objects: YAML and JSON, directories, kustomizations.
//!
//! Sources are read as `kubectl apply` would take them. Nothing is guessed: what cannot be read or
//! is not supported is an error that names the file, the place and the field.

#![forbid(unsafe_code)]

mod error;
pub mod git;
mod kustomize;
mod lines;
mod load;
mod merge;
mod model;
mod source;
mod updates;
mod yaml;

pub use error::{Error, Invalid, Place};
pub use lines::Lines;
pub use load::{Loaded, Options, Warning, load};
pub use model::{cluster, events};
pub use source::Source;
pub use updates::{RefusedUpdate, refused_updates};

use kilter_model::Origin;
use serde_json::Value;

/// An object and where it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object, as written, with its namespace filled in.
    pub value: Value,
    /// File and line of its document.
    pub origin: Origin,
}
