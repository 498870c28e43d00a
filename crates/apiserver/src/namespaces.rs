//! Namespaces that are being deleted: their contents go first, then they.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::registry::{Intent, Part, Registry, key_target};
use crate::resources::Resource;
use crate::status::Status;
use crate::store::Object;

/// Runs until told to stop.
pub async fn run(registry: Arc<Registry>, stop: CancellationToken) {
    let mut news = registry.store.news();
    loop {
        news.borrow_and_update();
        for namespace in registry.store.list(Resource::core("namespaces"), None).1 {
            if namespace.deleting
                && let Err(status) = empty(&registry, &namespace)
            {
                tracing::warn!(namespace = %namespace.key.name, %status, "cannot finish its deletion");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = news.changed() => {}
        }
    }
}

/// Deletes what is in a namespace, and lets the namespace go when nothing is.
fn empty(registry: &Registry, namespace: &Object) -> Result<(), Status> {
    let mut left = 0;
    for resource in registry.store.resources().into_iter().filter(|r| r.kind.namespaced) {
        left += registry.delete_all(resource, Some(&namespace.key.name))?;
    }
    if left > 0 {
        return Ok(());
    }
    let mut finalize = |mut value: Value| {
        value["spec"]["finalizers"] = Value::Array(vec![]);
        Ok(value)
    };
    match registry.modify(
        &key_target(Resource::core("namespaces"), &namespace.key),
        Part::Whole,
        &Intent::SERVER,
        &mut finalize,
    ) {
        Err(status) if status.reason != "NotFound" => Err(status),
        _ => Ok(()),
    }
}
