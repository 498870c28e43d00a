//! What the Kubernetes API server would refuse.

use serde_json::Value;

use crate::FieldError;

/// What is wrong with an object; empty when nothing is.
pub fn validate(object: &Value) -> Vec<FieldError> {
    crate::shape::misfit(object).into_iter().collect()
}
