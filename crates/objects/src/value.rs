//! Small accessors for objects that have no type yet.

use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, FieldError};

/// `kind` of an object; empty when absent.
pub fn kind(object: &Value) -> &str {
    text(object, "/kind")
}

/// `metadata.name`; empty when absent.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`; empty when absent.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Reads an object as a type, naming the field that does not fit.
pub(crate) fn typed<T: DeserializeOwned>(object: &Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(object).map_err(|e| {
        let field = e.path().to_string();
        FieldError::new(field, format!("Invalid value: {}", e.into_inner()))
    })
}

/// [`typed`], as an error that names the object.
pub(crate) fn typed_object<T: DeserializeOwned>(object: &Value) -> Result<T, Error> {
    typed(object).map_err(|e| {
        let (namespace, name) = (namespace(object), name(object));
        let name = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
        Error { kind: kind(object).to_owned(), name, field: e.field, message: e.message }
    })
}
