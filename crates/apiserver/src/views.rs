//! Kinds that are served in several versions: `events.k8s.io/v1` Events are kept as core Events,
//! custom resources in the version that their definition says.

use serde_json::{Map, Value};

use crate::resources::Resource;

/// Names of the same thing: in `events.k8s.io/v1`, and in core.
const RENAMED: [(&str, &str); 7] = [
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// What a client of `resource` sent, as it is kept.
pub fn to_storage(resource: &Resource, value: Value) -> Value {
    if resource.is_storage() {
        return value;
    }
    if let Some(custom) = &resource.custom {
        return in_version(value, &custom.now().stored);
    }
    let mut stored = rename(value, |key| RENAMED.iter().find(|(new, _)| *new == key).map(|(_, old)| *old));
    stored["apiVersion"] = "v1".into();
    // The core kind requires it, the newer one does not.
    if stored["involvedObject"].is_null() {
        stored["involvedObject"] = Value::Object(Map::new());
    }
    stored
}

/// What is kept, as a client of `resource` sees it.
pub fn from_storage(resource: &Resource, value: Value) -> Value {
    if resource.is_storage() {
        return value;
    }
    if resource.custom.is_some() {
        return in_version(value, &resource.kind.api_version());
    }
    let mut shown = rename(value, |key| RENAMED.iter().find(|(_, old)| *old == key).map(|(new, _)| *new));
    shown["apiVersion"] = resource.kind.api_version().into();
    shown
}

/// Versions of a custom resource differ in their name only (conversion strategy None).
fn in_version(mut value: Value, api_version: &str) -> Value {
    value["apiVersion"] = api_version.into();
    value
}

fn rename(value: Value, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(k, v)| (name(&k).map_or(k, str::to_owned), v)).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_survives_the_way_there_and_back() {
        let view = Resource::find("events.k8s.io", "v1", "events").expect("served");
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "regarding": {"name": "web"},
            "reportingController": "kilter", "reason": "R", "series": {"count": 2}});
        let stored = to_storage(view, event.clone());
        assert_eq!(stored["message"], "n");
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(from_storage(view, stored), event);
    }
}
