//! Definitions that are being deleted: their objects go first, then they.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{CLEANUP, DEFINITIONS};
use crate::meta;
use crate::registry::{Intent, Part, Registry, key_target};
use crate::resources::Resource;
use crate::status::Status;
use crate::store::Object;

/// Runs until told to stop.
pub async fn run(registry: Arc<Registry>, stop: CancellationToken) {
    let mut news = registry.store.news();
    let definitions = Resource::find(DEFINITIONS.0, "v1", DEFINITIONS.1).expect("BUG: definitions are served");
    loop {
        news.borrow_and_update();
        for definition in registry.store.list(definitions, None).1.iter().filter(|d| d.deleting) {
            match empty(&registry, definitions, definition) {
                Err(status) if status.reason != "NotFound" && status.reason != "Conflict" => {
                    tracing::warn!(definition = %definition.key.name, %status, "cannot finish its deletion");
                }
                _ => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = news.changed() => {}
        }
    }
}

/// Deletes the objects of a definition, and lets it go when there are none.
fn empty(registry: &Registry, definitions: &'static Resource, definition: &Object) -> Result<(), Status> {
    let value = definition.value();
    if meta::finalizers(&value).all(|f| f != CLEANUP) {
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&value["spec"]["group"]), text(&value["spec"]["names"]["plural"]));
    let table = registry.store.custom_table(&group, &plural);
    let left = table.map_or(Ok(0), |resource| registry.delete_all(resource, None))?;
    if left > 0 {
        return Ok(());
    }
    let mut finalize = |mut value: Value| {
        if let Some(finalizers) = value["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|f| f != CLEANUP);
        }
        Ok(value)
    };
    let target = key_target(definitions, &definition.key);
    registry.modify(&target, Part::Whole, &Intent::SERVER, &mut finalize).map(drop)
}
