//! What a schema must be to be structural: a type everywhere, so that it says of every field whether
//! it may be there; and nothing that would make that depend on values.

use regex::Regex;
use serde_json::Value;

use super::Structural;
use crate::validate::Report;

/// What a schema may not have at all.
const NEVER: [&str; 8] =
    ["$ref", "$schema", "additionalItems", "definitions", "dependencies", "id", "patternProperties", "externalDocs"];
/// What schemas below `allOf`, `anyOf`, `oneOf` and `not` may not have: they judge values, and say
/// nothing of structure.
const ONLY_STRUCTURAL: [&str; 12] = [
    "type",
    "default",
    "description",
    "title",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Where in a definition a schema is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The object itself.
    Root,
    Within,
    /// Below `allOf`...
    Judging,
    /// Below the `allOf`... of an int-or-string, which may say so in full.
    JudgingEither,
}

/// The schema of a version.
pub(super) fn root(report: &mut Report, path: &str, schema: &Value) {
    if schema["type"] != "object" {
        report.invalid(&format!("{path}.type"), schema["type"].as_str().unwrap_or_default(), "must be object at the root");
    }
    for own in super::OWN.iter().filter(|own| schema["properties"].get(**own).is_some()) {
        let declared = &schema["properties"][*own];
        let wanted = if *own == "metadata" { "object" } else { "string" };
        if declared["type"] != wanted {
            report.invalid(&format!("{path}.properties[{own}].type"), declared["type"].as_str().unwrap_or_default(), &format!("must be {wanted}"));
        }
    }
    walk(report, path, schema, Place::Root);
}

fn walk(report: &mut Report, path: &str, schema: &Value, place: Place) {
    let Some(map) = schema.as_object() else { return };
    for key in NEVER.iter().filter(|key| map.contains_key(**key)) {
        report.forbidden(&format!("{path}.{key}"), "is not supported");
    }
    if schema["uniqueItems"] == true {
        report.forbidden(&format!("{path}.uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(why) = Regex::new(pattern)
    {
        let why = why.to_string();
        report.invalid(&format!("{path}.pattern"), pattern, why.lines().last().unwrap_or_default());
    }
    match place {
        Place::Judging | Place::JudgingEither => {
            let in_full = place == Place::JudgingEither && matches!(schema["type"].as_str(), Some("integer" | "string"));
            for key in ONLY_STRUCTURAL.iter().filter(|key| map.contains_key(**key) && !(in_full && **key == "type")) {
                report.forbidden(&format!("{path}.{key}"), "must be empty to be structural");
            }
        }
        Place::Root | Place::Within => structure(report, path, schema),
    }
    below(report, path, schema, place);
}

fn structure(report: &mut Report, path: &str, schema: &Value) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let either = schema["x-kubernetes-int-or-string"] == true;
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    if kind.is_empty() && !either && !open {
        report.required(&format!("{path}.type"), "must not be empty for specified object fields");
    }
    report.one_of(&format!("{path}.type"), Some(kind).filter(|k| !k.is_empty()), &TYPES);
    if either && !kind.is_empty() {
        report.forbidden(&format!("{path}.type"), "must be empty if x-kubernetes-int-or-string is true");
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        report.invalid(&format!("{path}.x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
    }
    if schema["additionalProperties"] == false {
        report.forbidden(&format!("{path}.additionalProperties"), "additionalProperties cannot be set to false");
    }
    if schema["additionalProperties"].is_object() && schema["properties"].as_object().is_some_and(|p| !p.is_empty()) {
        report.forbidden(&format!("{path}.additionalProperties"), "additionalProperties and properties are mutual exclusive");
    }
    if kind == "array" && !schema["items"].is_object() {
        report.required(&format!("{path}.items"), "must be specified");
    }
    list_type(report, path, schema);
    if let Some(default) = schema.get("default") {
        check_default(report, &format!("{path}.default"), schema, default);
    }
}

fn list_type(report: &mut Report, path: &str, schema: &Value) {
    let Some(kind) = schema["x-kubernetes-list-type"].as_str() else { return };
    let at = format!("{path}.x-kubernetes-list-type");
    report.one_of(&at, Some(kind), &["atomic", "map", "set"]);
    if schema["type"] != "array" {
        report.forbidden(&at, "must be of type array");
    }
    if kind != "map" {
        return;
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        report.required(&format!("{path}.x-kubernetes-list-map-keys"), "must not be empty if x-kubernetes-list-type is map");
    }
    for key in keys.iter().filter_map(serde_json::Value::as_str) {
        if schema["items"]["properties"].get(key).is_none() {
            report.invalid(&format!("{path}.x-kubernetes-list-map-keys"), key, "entries must all be names of item properties");
        }
    }
}

/// A default must itself be what the schema wants.
fn check_default(report: &mut Report, path: &str, schema: &Value, default: &Value) {
    let wrapped = serde_json::json!({"type": "object", "properties": {"default": schema}});
    let of = Structural::new(&wrapped);
    let mut object = serde_json::json!({"metadata": {"name": "x"}, "default": default});
    let given = object.clone();
    if let Some(field) = of.prune(&mut object).first() {
        report.invalid(path, field, "must not have unknown fields");
    }
    for fault in of.validate(&given) {
        report.push(path, fault.message);
    }
}

fn below(report: &mut Report, path: &str, schema: &Value, place: Place) {
    let judging = match schema["x-kubernetes-int-or-string"] == true || place == Place::JudgingEither {
        true => Place::JudgingEither,
        false => Place::Judging,
    };
    let inner = match place {
        Place::Root | Place::Within => Place::Within,
        Place::Judging | Place::JudgingEither => Place::Judging,
    };
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        // Every object has these; what a definition may say of them is checked above.
        if place == Place::Root && super::OWN.contains(&name.as_str()) {
            continue;
        }
        walk(report, &format!("{path}.properties[{name}]"), of, inner);
    }
    for key in ["items", "additionalProperties"] {
        walk(report, &format!("{path}.{key}"), &schema[key], inner);
    }
    walk(report, &format!("{path}.not"), &schema["not"], judging);
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, of) in schema[key].as_array().into_iter().flatten().enumerate() {
            walk(report, &format!("{path}.{key}[{i}]"), of, judging);
        }
    }
}
