//! The columns of custom resources: the name, and what their definitions say; else the age.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text;
use crate::custom::{Column, Version};

pub(super) fn columns(version: &Version) -> Value {
    let name = json!({"name": "Name", "type": "string", "format": "name", "description": "Name", "priority": 0});
    let own = version.columns.iter().map(|c| {
        json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority})
    });
    let age = json!({"name": "Age", "type": "date", "format": "", "description": "Age", "priority": 0});
    let age = version.columns.is_empty().then_some(age);
    [name].into_iter().chain(own).chain(age).collect()
}

pub(super) fn cells(version: &Version, object: &Value, now: Timestamp) -> Vec<Value> {
    let own = version.columns.iter().map(|column| cell(column, object, now));
    let age = version.columns.is_empty().then(|| text::age(object, now));
    [text::name(object)].into_iter().chain(own).chain(age).collect()
}

/// What a column's path leads to, where it is of the column's type.
fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let found = column.path.find(object);
    let Some(first) = found.first() else { return Value::Null };
    match column.kind.as_str() {
        "integer" => first.as_f64().map_or(Value::Null, |n| json!(n as i64)),
        "number" => if first.is_number() { (*first).clone() } else { Value::Null },
        "boolean" => if first.is_boolean() { (*first).clone() } else { Value::Null },
        "date" => text::since(first, now),
        _ => {
            let texts = found.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(" ").into()
        }
    }
}
