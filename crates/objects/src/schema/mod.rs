//! The schemas of the kinds, as OpenAPI v3 has them: what clients are told, and by what objects
//! are merged, compared and checked.

mod topology;

use std::sync::LazyLock;

use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::kinds::{Kind, KINDS};
use crate::shape;
use topology::Topology;

/// Where a reference to a definition begins.
const REFERENCE: &str = "#/components/schemas/";

/// Every definition that the built-in kinds are made of, by its name in OpenAPI.
pub fn definitions() -> &'static Map<String, Value> {
    &BUILT_IN.definitions
}

/// The name of a built-in kind's definition.
pub fn definition_of(kind: &Kind) -> Option<&'static str> {
    let key = (kind.group, kind.version, kind.kind);
    BUILT_IN.roots.iter().find(|(k, _)| *k == key).map(|(_, name)| name.as_str())
}

/// The type of a built-in kind; one without structure for kinds unknown here.
pub fn of(kind: &Kind) -> Type<'static> {
    let schema = definition_of(kind).and_then(|name| definitions().get(name));
    Type { schema: schema.unwrap_or(&NOTHING), definitions: definitions() }
}

type Key = (&'static str, &'static str, &'static str);

struct BuiltIn {
    definitions: Map<String, Value>,
    roots: Vec<(Key, String)>,
}

static NOTHING: Value = Value::Null;
static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(generate);

fn generate() -> BuiltIn {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let mut roots = vec![];
    for kind in KINDS.iter().chain([&shape::EVENT_VIEW]) {
        let Some(shape) = shape::of(kind) else { continue };
        let schema = (shape.schema)(&mut generator);
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.strip_prefix(REFERENCE).unwrap_or(name).to_owned();
            roots.push(((kind.group, kind.version, kind.kind), name));
        }
    }
    let mut definitions = generator.take_definitions(true);
    for ((group, version, kind), name) in &roots {
        definitions[name]["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "version": version, "kind": kind}]);
    }
    annotate(&mut definitions);
    BuiltIn { definitions, roots }
}

fn annotate(definitions: &mut Map<String, Value>) {
    let property = |definitions: &mut Map<String, Value>, package: &str, name: &str, field: &str, notes: Value| {
        let schema = definitions.get_mut(&format!("{package}{name}")).and_then(|d| d.get_mut("properties"));
        if let Some(Value::Object(schema)) = schema.and_then(|p| p.get_mut(field)) {
            schema.extend(notes.as_object().cloned().unwrap_or_default());
        }
    };
    for (package, name, field, topology) in topology::FIELDS {
        let notes = match topology {
            Topology::Keyed(keys) => {
                json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys})
            }
            Topology::Set => json!({"x-kubernetes-list-type": "set"}),
            Topology::AtomicMap => json!({"x-kubernetes-map-type": "atomic"}),
        };
        property(definitions, package, name, field, notes);
    }
    for (package, name, field, default) in topology::DEFAULTS {
        property(definitions, package, name, field, json!({"default": default}));
    }
    for (package, names) in topology::ATOMIC {
        for name in *names {
            if let Some(Value::Object(schema)) = definitions.get_mut(&format!("{package}{name}")) {
                schema.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
        }
    }
}

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
pub struct Type<'a> {
    schema: &'a Value,
    definitions: &'a Map<String, Value>,
}

/// How a value merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Structure<'a> {
    /// As a whole.
    Atomic,
    /// By the fields that its type declares.
    Fields,
    /// By its keys.
    Map,
    /// As a set of different values.
    Set,
    /// Item by item; these fields tell them apart.
    Keyed(Vec<&'a str>),
}

impl<'a> Type<'a> {
    /// A schema that refers to nothing outside of it: a CustomResourceDefinition's.
    pub fn standing_alone(schema: &'a Value) -> Self {
        Self { schema, definitions: definitions() }
    }

    /// How such a value merges under this type. What has no type merges as its JSON does: objects
    /// by key, lists as a whole (structured-merge-diff's deduced type).
    pub fn structure(self, value: &Value) -> Structure<'a> {
        let mark = |key: &str| self.schema.get(key).and_then(Value::as_str);
        match value {
            Value::Object(_) if mark("x-kubernetes-map-type") == Some("atomic") => Structure::Atomic,
            Value::Object(_) if self.schema.get("properties").is_some() => Structure::Fields,
            Value::Object(_) => Structure::Map,
            Value::Array(_) => match mark("x-kubernetes-list-type") {
                Some("set") => Structure::Set,
                Some("map") => {
                    let keys = self.schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                    Structure::Keyed(keys.into_iter().flatten().filter_map(Value::as_str).collect())
                }
                _ => Structure::Atomic,
            },
            _ => Structure::Atomic,
        }
    }

    /// The type of a field of an object.
    pub fn field(self, name: &str) -> Self {
        let declared = self.schema.get("properties").and_then(|p| p.get(name));
        self.at(declared.or_else(|| self.schema.get("additionalProperties")))
    }

    /// Whether an object of this type declares this field.
    pub fn declares(self, name: &str) -> bool {
        self.schema.get("properties").is_some_and(|p| p.get(name).is_some())
    }

    /// The type of the items of a list.
    pub fn items(self) -> Self {
        self.at(self.schema.get("items"))
    }

    /// What an absent value means.
    pub fn default(self) -> Option<&'a Value> {
        self.schema.get("default")
    }

    fn at(self, schema: Option<&'a Value>) -> Self {
        let schema = schema.unwrap_or(&NOTHING);
        let reference = match schema.get("allOf").and_then(|all| all.get(0)) {
            Some(only) => only.get("$ref"),
            None => schema.get("$ref"),
        };
        let name = reference.and_then(Value::as_str).and_then(|r| r.strip_prefix(REFERENCE));
        let schema = name.and_then(|name| self.definitions.get(name)).unwrap_or(schema);
        Self { schema, definitions: self.definitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_names_a_field_that_exists() {
        for (package, name, field, topology) in topology::FIELDS {
            // Types that only kinds of other groups use are not generated.
            let Some(definition) = definitions().get(&format!("{package}{name}")) else {
                panic!("{package}{name} is no type of any kind here")
            };
            let items = &definition["properties"][field];
            let fits = match topology {
                Topology::Keyed(_) | Topology::Set => items["type"] == "array",
                Topology::AtomicMap => items["type"] == "object",
            };
            assert!(fits, "{package}{name}.{field}: {items}");
            let Topology::Keyed(keys) = topology else { continue };
            let item = Type { schema: definition, definitions: definitions() }.field(field).items();
            for key in *keys {
                assert!(item.declares(key), "{package}{name}.{field} has no key {key}");
            }
        }
        for (package, names) in topology::ATOMIC {
            for name in *names {
                assert!(definitions().contains_key(&format!("{package}{name}")), "{package}{name}");
            }
        }
    }

    #[test]
    fn every_kind_has_a_definition_that_says_which_kind_it_is() {
        for kind in KINDS {
            let name = definition_of(kind).unwrap_or_else(|| panic!("{kind:?}"));
            assert_eq!(definitions()[name]["x-kubernetes-group-version-kind"][0]["kind"], kind.kind);
        }
    }

    #[test]
    fn references_lead_to_definitions() {
        fn check(value: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                        let name = reference.strip_prefix(REFERENCE).unwrap_or_else(|| panic!("{reference}"));
                        assert!(definitions().contains_key(name), "{reference}");
                    }
                    map.values().for_each(check);
                }
                Value::Array(items) => items.iter().for_each(check),
                _ => {}
            }
        }
        definitions().values().for_each(check);
        let pods = of(crate::kinds::find("v1", "Pod").expect("a kind"));
        let containers = pods.field("spec").field("containers");
        assert_eq!(containers.structure(&json!([])), Structure::Keyed(vec!["name"]));
        let port = containers.items().field("ports").items().field("protocol");
        assert_eq!(port.default(), Some(&json!("TCP")));
    }
}
