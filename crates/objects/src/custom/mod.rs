//! Custom resources: what makes a CustomResourceDefinition one, and the structural schemas by which
//! its objects are pruned, defaulted and validated.
//!
//! Rules in CEL (`x-kubernetes-validations`) are kept and shown, and not evaluated; [`unchecked`]
//! says where a definition has some, so that nobody takes silence for consent.

mod check;
mod column;
mod definition;
mod formats;
mod shaping;
mod structural;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use regex::Regex;
use serde_json::{Value, json};

use crate::FieldError;
use crate::schema::Type;
use crate::value::typed;
pub use column::Path;
pub(crate) use definition::definition;
pub use definition::unchecked;

/// Fields that every object has, whatever its schema says.
const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The schema of one version of a custom resource, ready for use.
#[derive(Debug)]
pub struct Structural {
    schema: Value,
    /// The `pattern`s in it, compiled once.
    patterns: HashMap<String, Regex>,
}

impl Structural {
    /// From `openAPIV3Schema`, which [`crate::validate`] has found good. A pattern that cannot be
    /// compiled matches nothing.
    pub fn new(schema: &Value) -> Self {
        let mut schema = schema.clone();
        let mut patterns = HashMap::new();
        collect_patterns(&schema, &mut patterns);
        if schema["properties"].is_null() {
            schema["properties"] = json!({});
        }
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        let metadata = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        schema["properties"]["metadata"] = json!({"$ref": metadata});
        Self { schema, patterns }
    }

    /// The schema as clients are told it, with what every object has.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// How objects merge.
    pub fn merging(&self) -> Type<'_> {
        Type::standing_alone(&self.schema)
    }

    /// Takes out the fields that the schema does not have; answers their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut removed = vec![];
        shaping::prune(Some(&self.schema), object, "", true, &mut removed);
        removed
    }

    /// Fills in the defaults. A `null` where none may be counts as absent.
    pub fn default(&self, object: &mut Value) {
        shaping::default(&self.schema, object, true);
    }

    /// What is wrong with an object, its metadata included.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut faults = vec![];
        match typed::<ObjectMeta>(&object["metadata"]) {
            Ok(meta) => faults = crate::validate::custom_metadata(&meta),
            Err(fault) => faults.push(FieldError::new(format!("metadata.{}", fault.field), fault.message)),
        }
        check::Checker { patterns: &self.patterns }.root(&self.schema, object, &mut faults);
        faults
    }
}

/// The custom resources that a set of objects defines.
#[derive(Debug, Default)]
pub struct Definitions(HashMap<(String, String), (Structural, bool)>);

impl Definitions {
    /// From the valid definitions among some objects.
    pub fn of<'a>(objects: impl Iterator<Item = &'a Value>) -> Self {
        let is_definition = |object: &&Value| {
            crate::kinds::of(object).is_some_and(|kind| kind.group == "apiextensions.k8s.io")
        };
        let mut found = HashMap::new();
        for definition in objects.filter(is_definition) {
            let spec = &definition["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            for version in spec["versions"].as_array().into_iter().flatten().filter(|v| v["served"] == true) {
                let api_version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
                let schema = Structural::new(&version["schema"]["openAPIV3Schema"]);
                let namespaced = spec["scope"] == "Namespaced";
                found.insert((api_version, text(&spec["names"]["kind"])), (schema, namespaced));
            }
        }
        Self(found)
    }

    /// The schema of an object's kind, and whether it lives in namespaces; `None` for built-in kinds,
    /// whatever is defined.
    pub fn of_object(&self, object: &Value) -> Option<(&Structural, bool)> {
        if crate::kinds::of(object).is_some() {
            return None;
        }
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        self.0.get(&(text("apiVersion"), text("kind"))).map(|(schema, namespaced)| (schema, *namespaced))
    }
}

fn collect_patterns(schema: &Value, found: &mut HashMap<String, Regex>) {
    match schema {
        Value::Object(map) => {
            if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
                && let Ok(regex) = Regex::new(pattern)
            {
                found.insert(pattern.to_owned(), regex);
            }
            map.values().for_each(|inner| collect_patterns(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_patterns(inner, found)),
        _ => {}
    }
}
