use std::fmt;

/// An object that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name}: {field}: {message}")]
pub struct Error {
    /// The object's kind.
    pub kind: String,
    /// `namespace/name`, as far as known.
    pub name: String,
    /// The field's path, as `spec.ports[0].port`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// One thing wrong with one field of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// The field's path, as `spec.ports[0].port`.
    pub field: String,
    /// What is wrong with it, beginning as Kubernetes does (`Invalid value: ...`, `Required value`).
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for FieldError {}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}
