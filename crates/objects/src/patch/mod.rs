//! The three patch formats of the Kubernetes API, as pure functions over JSON.

mod schema;
pub mod strategic;

use serde_json::Value;

/// A patch that cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a patch of its format.
    #[error("not a {format} patch: {message}")]
    Malformed {
        /// `JSON` or `strategic merge`.
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A patch of its format that does not fit the object.
    #[error("the patch does not apply at {path:?}: {message}")]
    DoesNotApply {
        /// Where: a JSON pointer or a field path.
        path: String,
        /// Why.
        message: String,
    },
}

/// Applies a JSON patch (RFC 6902). Nothing is changed when an operation fails.
///
/// # Errors
/// A patch that is none, a path that does not exist, or a `test` that fails.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), Error> {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|e| Error::Malformed { format: "JSON", message: e.to_string() })?;
    json_patch::patch(target, &patch)
        .map_err(|e| Error::DoesNotApply { path: e.path.to_string(), message: e.kind.to_string() })
}

/// Applies a merge patch (RFC 7386): objects are merged, `null` deletes, all else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

/// Applies a strategic merge patch (see [`strategic`]).
///
/// # Errors
/// A directive that is none, or a list item without its merge key.
pub fn strategic(target: &mut Value, patch: &Value) -> Result<(), Error> {
    strategic::apply(target, patch)
}
