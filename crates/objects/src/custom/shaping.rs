//! What an object of a structural schema becomes before it is judged: unknown fields go, defaults
//! come.

use serde_json::{Map, Value};

use super::OWN;

fn is_set(schema: &Value, mark: &str) -> bool {
    schema[mark] == true
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The schema of a field. `Some(None)`: it may be there, and nothing is said of what is in it.
fn field<'a>(schema: &'a Value, key: &str) -> Option<Option<&'a Value>> {
    if let Some(found) = schema["properties"].get(key) {
        return Some(Some(found));
    }
    match &schema["additionalProperties"] {
        Value::Bool(true) => Some(None),
        found @ Value::Object(_) => Some(Some(found)),
        _ => None,
    }
}

/// Removes what the schema does not specify. `root`: the value is an object of the API itself.
pub(super) fn prune(schema: Option<&Value>, value: &mut Value, path: &str, root: bool, removed: &mut Vec<String>) {
    let root = root || schema.is_some_and(|s| is_set(s, "x-kubernetes-embedded-resource"));
    let open = schema.is_some_and(|s| is_set(s, "x-kubernetes-preserve-unknown-fields"));
    match value {
        Value::Object(map) => {
            map.retain(|key, inner| {
                if root && OWN.contains(&key.as_str()) {
                    return true;
                }
                let at = join(path, key);
                match schema.and_then(|s| field(s, key)) {
                    Some(of) => prune(of, inner, &at, false, removed),
                    None if open => {}
                    None => {
                        removed.push(at);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            let of = schema.and_then(|s| s.get("items"));
            if of.is_none() && open {
                return;
            }
            for (i, item) in items.iter_mut().enumerate() {
                prune(of, item, &format!("{path}[{i}]"), false, removed);
            }
        }
        _ => {}
    }
}

/// Fills in defaults, at any depth of what is there.
pub(super) fn default(schema: &Value, value: &mut Value, root: bool) {
    match value {
        Value::Object(map) => {
            drop_nulls(schema, map);
            for (key, of) in schema["properties"].as_object().into_iter().flatten() {
                if root && OWN.contains(&key.as_str()) {
                    continue;
                }
                if let Some(given) = of.get("default")
                    && !map.contains_key(key)
                {
                    map.insert(key.clone(), given.clone());
                }
            }
            for (key, inner) in map.iter_mut().filter(|(key, _)| !(root && OWN.contains(&key.as_str()))) {
                if let Some(Some(of)) = field(schema, key) {
                    default(of, inner, is_set(of, "x-kubernetes-embedded-resource"));
                }
            }
        }
        Value::Array(items) => {
            let of = &schema["items"];
            items.iter_mut().for_each(|item| default(of, item, is_set(of, "x-kubernetes-embedded-resource")));
        }
        _ => {}
    }
}

/// A `null` that may not be one counts as absent.
fn drop_nulls(schema: &Value, map: &mut Map<String, Value>) {
    map.retain(|key, value| {
        !value.is_null() || !matches!(field(schema, key), Some(Some(of)) if !is_set(of, "nullable"))
    });
}
