use kilter_objects::apply::{self, Manager, Operation};
use kilter_objects::kinds;
use kilter_objects::schema::{self, Type};
use serde_json::Value;

use crate::meta;
use crate::request::Target;

/// Whose fields become what a write changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// This server itself: nobody's, and the record stays as it was.
    Server,
    /// A client's, by any write but an apply.
    Client(String),
    /// As the new state says already: it is the outcome of an apply.
    Recorded,
}

/// Who writes, and whether anything is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Whose fields become what is changed.
    pub author: Author,
    /// Whether the write is only tried.
    pub dry_run: bool,
}

impl Intent {
    /// A write of this server's own.
    pub const SERVER: Intent = Intent { author: Author::Server, dry_run: false };

    /// Notes in the new state who manages what (`metadata.managedFields`).
    pub(super) fn record(&self, target: &Target, before: Option<&Value>, after: &mut Value) {
        match &self.author {
            Author::Recorded => {}
            Author::Server => {
                let old = before.and_then(|b| b["metadata"].get("managedFields")).cloned();
                match old {
                    Some(old) => meta::metadata(after).insert("managedFields".into(), old),
                    None => meta::metadata(after).remove("managedFields"),
                };
            }
            Author::Client(name) => {
                let kind = kinds::of(after);
                let manager = Manager {
                    name: name.clone(),
                    operation: Operation::Update,
                    api_version: kind.unwrap_or(target.resource.kind).api_version(),
                    subresource: target.subresource.clone().unwrap_or_default(),
                };
                let mut track = |ty: Type<'_>| apply::track(before, after, ty, &manager, &meta::now());
                match kind {
                    Some(kind) => track(schema::of(kind)),
                    None => target.resource.with_type(track),
                }
            }
        }
    }
}
