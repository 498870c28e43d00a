//! Whether a value fits a schema, in the words of Kubernetes.

use std::collections::{HashMap, HashSet};

use regex::Regex;
use serde_json::Value;

use super::{OWN, formats};
use crate::FieldError;

/// Far more faults than anybody reads.
const MOST: usize = 100;

pub(super) struct Checker<'a> {
    pub(super) patterns: &'a HashMap<String, Regex>,
}

type Faults = Vec<FieldError>;

fn push(faults: &mut Faults, path: &str, message: String) {
    if faults.len() < MOST {
        faults.push(FieldError::new(path, message));
    }
}

/// A value that is not as the schema wants it.
fn invalid(faults: &mut Faults, path: &str, value: &Value, why: &str) {
    push(faults, path, format!("Invalid value: {value}: {path} in body {why}"));
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What a value is called where it is not what it should be.
fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        _ => true,
    }
}

impl Checker<'_> {
    /// An object of the API: `metadata` is judged elsewhere.
    pub(super) fn root(&self, schema: &Value, object: &Value, faults: &mut Faults) {
        self.value(schema, object, "", true, faults);
    }

    fn value(&self, schema: &Value, value: &Value, path: &str, root: bool, faults: &mut Faults) {
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        let either = schema["x-kubernetes-int-or-string"] == true;
        if either && !(value.is_string() || is_of(value, "integer")) {
            return wrong_type(faults, path, value, "integer,string");
        }
        if let Some(kind) = schema["type"].as_str()
            && !is_of(value, kind)
        {
            return wrong_type(faults, path, value, kind);
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let all: Vec<String> = allowed.iter().map(Value::to_string).collect();
            push(faults, path, format!("Unsupported value: {value}: supported values: {}", all.join(", ")));
        }
        match value {
            Value::Object(map) => self.object(schema, map, path, root, faults),
            Value::Array(items) => self.array(schema, items, path, faults),
            Value::String(text) => self.text(schema, text, path, faults),
            Value::Number(_) => number(schema, value, path, faults),
            _ => {}
        }
        self.combinations(schema, value, path, root, faults);
    }

    fn object(
        &self,
        schema: &Value,
        map: &serde_json::Map<String, Value>,
        path: &str,
        root: bool,
        faults: &mut Faults,
    ) {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                push(faults, &join(path, name), "Required value".into());
            }
        }
        if let Some(most) = schema["maxProperties"].as_u64().filter(|most| map.len() as u64 > *most) {
            push(faults, path, format!("Too many: {}: must have at most {most} items", map.len()));
        }
        if let Some(least) = schema["minProperties"].as_u64().filter(|least| (map.len() as u64) < *least) {
            let why = format!("should have at least {least} properties");
            invalid(faults, path, &Value::Object(map.clone()), &why);
        }
        for (key, inner) in map {
            if root && OWN.contains(&key.as_str()) {
                continue;
            }
            let of = schema["properties"].get(key).or_else(|| schema.get("additionalProperties"));
            if let Some(of) = of.filter(|of| of.is_object()) {
                let embedded = of["x-kubernetes-embedded-resource"] == true;
                self.value(of, inner, &join(path, key), embedded, faults);
            }
        }
    }

    fn array(&self, schema: &Value, items: &[Value], path: &str, faults: &mut Faults) {
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
            push(faults, path, format!("Too many: {}: must have at most {most} items", items.len()));
        }
        if let Some(least) = schema["minItems"].as_u64().filter(|least| (items.len() as u64) < *least) {
            let why = format!("should have at least {least} items");
            invalid(faults, path, &Value::Array(items.to_vec()), &why);
        }
        let keys: Vec<&str> =
            schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let unique = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => true,
            Some("map") => !keys.is_empty(),
            _ => false,
        };
        let mut seen = HashSet::new();
        let of = &schema["items"];
        for (i, item) in items.iter().enumerate() {
            let at = format!("{path}[{i}]");
            if unique {
                let identity: Value = match keys.is_empty() {
                    true => item.clone(),
                    false => keys.iter().map(|key| item[*key].clone()).collect(),
                };
                if !seen.insert(identity.to_string()) {
                    push(faults, &at, format!("Duplicate value: {item}"));
                }
            }
            if of.is_object() {
                self.value(of, item, &at, of["x-kubernetes-embedded-resource"] == true, faults);
            }
        }
    }

    fn text(&self, schema: &Value, text: &str, path: &str, faults: &mut Faults) {
        let value = || Value::from(text);
        let length = text.chars().count() as u64;
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            push(faults, path, format!("Too long: may not be more than {most} bytes"));
        }
        if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
            invalid(faults, path, &value(), &format!("should be at least {least} chars long"));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && !self.patterns.get(pattern).is_some_and(|regex| regex.is_match(text))
        {
            invalid(faults, path, &value(), &format!("should match '{pattern}'"));
        }
        if let Some(format) = schema["format"].as_str().filter(|format| !formats::text(format, text)) {
            invalid(faults, path, &value(), &format!("must be of type {format}: {:?}", text));
        }
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`.
    fn combinations(&self, schema: &Value, value: &Value, path: &str, root: bool, faults: &mut Faults) {
        let all = |key: &str| schema[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let fits = |of: &Value| {
            let mut found = vec![];
            self.value(of, value, path, root, &mut found);
            found.is_empty()
        };
        for of in all("allOf") {
            self.value(of, value, path, root, faults);
        }
        if !all("anyOf").is_empty() && !all("anyOf").iter().any(fits) {
            invalid(faults, path, value, "must validate at least one schema (anyOf)");
        }
        if !all("oneOf").is_empty() {
            let found = all("oneOf").iter().filter(|of| fits(of)).count();
            if found != 1 {
                let found = if found == 0 { "Found none valid".to_owned() } else { format!("Found {found} valid alternatives") };
                invalid(faults, path, value, &format!("must validate one and only one schema (oneOf). {found}"));
            }
        }
        if schema["not"].is_object() && fits(&schema["not"]) {
            invalid(faults, path, value, "must not validate the schema (not)");
        }
    }
}

fn wrong_type(faults: &mut Faults, path: &str, value: &Value, kind: &str) {
    let found = name_of(value);
    push(faults, path, format!("Invalid value: {found:?}: {path} in body must be of type {kind}: {found:?}"));
}

fn number(schema: &Value, value: &Value, path: &str, faults: &mut Faults) {
    let Some(number) = value.as_f64() else { return };
    let (most, least) = (schema["maximum"].as_f64(), schema["minimum"].as_f64());
    let (under, over) = (schema["exclusiveMaximum"] == true, schema["exclusiveMinimum"] == true);
    if let Some(most) = most.filter(|most| number > *most || (under && number == *most)) {
        let or_equal = if under { "" } else { " or equal to" };
        invalid(faults, path, value, &format!("should be less than{or_equal} {most}"));
    }
    if let Some(least) = least.filter(|least| number < *least || (over && number == *least)) {
        let or_equal = if over { "" } else { " or equal to" };
        invalid(faults, path, value, &format!("should be greater than{or_equal} {least}"));
    }
    if let Some(step) = schema["multipleOf"].as_f64().filter(|step| *step > 0.0 && (number / step).fract() != 0.0) {
        invalid(faults, path, value, &format!("should be a multiple of {step}"));
    }
    if let Some(format) = schema["format"].as_str().filter(|format| !formats::number(format, number)) {
        invalid(faults, path, value, &format!("must be of format {format}"));
    }
}
