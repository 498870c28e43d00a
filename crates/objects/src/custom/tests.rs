use serde_json::{Value, json};

use super::*;

/// A definition that is right, with this schema of `spec`.
fn definition(spec: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.acme.example"},
        "spec": {
            "group": "acme.example", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": spec},
            }}}],
        },
    })
}

fn faults(definition: &Value) -> Vec<String> {
    let mut defaulted = definition.clone();
    crate::default(&mut defaulted);
    crate::validate(&defaulted).iter().map(ToString::to_string).collect()
}

fn of(spec: Value) -> Structural {
    let definition = definition(spec);
    assert_eq!(faults(&definition), Vec::<String>::new());
    Structural::new(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "w", "labels": {"a": "b"}}, "spec": spec})
}

fn widget() -> Value {
    json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 10, "default": 3},
        "colour": {"type": "string", "enum": ["red", "green"], "nullable": true},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "parts": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"type": "object", "required": ["id"], "properties": {
                "id": {"type": "string"}, "cidr": {"type": "string", "format": "cidr"}, "on": {"type": "boolean", "default": true}}}},
    }})
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let schema = of(widget());
    let mut value = object(json!({
        "colour": null, "name": null, "extra": 1, "labels": {"a": "b"}, "free": {"x": {"y": 1}},
        "parts": [{"id": "a", "what": 1}],
    }));
    value["other"] = 1.into();
    assert_eq!(schema.prune(&mut value), ["other", "spec.extra", "spec.parts[0].what"]);
    schema.default(&mut value);
    let expected = json!({"size": 3, "colour": null, "labels": {"a": "b"}, "free": {"x": {"y": 1}}, "parts": [{"id": "a", "on": true}]});
    assert_eq!(value, object(expected));
    assert_eq!(schema.validate(&value), []);
    let again = value.clone();
    schema.default(&mut value);
    assert_eq!(value, again);
}

#[test]
fn what_does_not_fit_is_said_field_by_field() {
    let schema = of(widget());
    let table = [
        (json!({}), "spec.size: Required value"),
        (json!({"size": "big"}), "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""),
        (json!({"size": 11}), "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
        (json!({"size": 0}), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        (json!({"size": 1.5}), "spec.size: Invalid value: \"number\": spec.size in body must be of type integer: \"number\""),
        (json!({"size": 1, "colour": "blue"}), "spec.colour: Unsupported value: \"blue\": supported values: \"red\", \"green\""),
        (json!({"size": 1, "name": "AB"}), "spec.name: Invalid value: \"AB\": spec.name in body should match '^[a-z]+$'"),
        (json!({"size": 1, "name": "abcdef"}), "spec.name: Too long: may not be more than 5 bytes"),
        (json!({"size": 1, "port": true}), "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\""),
        (json!({"size": 1, "labels": {"a": 1}}), "spec.labels.a: Invalid value: \"integer\": spec.labels.a in body must be of type string: \"integer\""),
        (json!({"size": 1, "parts": [{"id": "a"}, {"id": "a"}]}), "spec.parts[1]: Duplicate value: {\"id\":\"a\"}"),
        (json!({"size": 1, "parts": [{"id": "a", "cidr": "10.0.0.0/40"}]}), "spec.parts[0].cidr: Invalid value: \"10.0.0.0/40\": spec.parts[0].cidr in body must be of type cidr: \"10.0.0.0/40\""),
        (json!({"size": 1, "parts": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}), "spec.parts: Too many: 3: must have at most 2 items"),
    ];
    for (spec, expected) in table {
        let found: Vec<String> = schema.validate(&object(spec)).iter().map(ToString::to_string).collect();
        assert_eq!(found, [expected]);
    }
    let mut wrong = object(json!({"size": 1}));
    wrong["metadata"]["labels"] = json!({"a b": "c"});
    assert_eq!(schema.validate(&wrong).len(), 1);
}

#[test]
fn alternatives_are_counted() {
    let schema = of(json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "not": {"properties": {"a": {"enum": ["never"]}}, "required": ["a"]}}));
    let count = |spec: Value| schema.validate(&object(spec)).len();
    assert_eq!(count(json!({"a": "x"})), 0);
    assert_eq!(count(json!({})), 1);
    assert_eq!(count(json!({"a": "x", "b": "y"})), 1);
    assert_eq!(count(json!({"a": "never"})), 1);
}

/// A definition changed at one place.
type Change = fn(&mut Value);

#[test]
fn a_definition_that_is_none_is_refused_where_it_is_wrong() {
    const SCHEMA: &str = "spec.versions[0].schema.openAPIV3Schema";
    let table: [(&str, Change); 15] = [
        ("metadata.name", |d| d["metadata"]["name"] = "widgets".into()),
        ("spec.group", |d| { d["spec"]["group"] = "acme".into(); d["metadata"]["name"] = "widgets.acme".into(); }),
        ("spec.scope", |d| d["spec"]["scope"] = "Planet".into()),
        ("spec.names.plural", |d| { d["spec"]["names"]["plural"] = "Widgets".into(); d["metadata"]["name"] = "Widgets.acme.example".into(); }),
        ("spec.versions", |d| d["spec"]["versions"][0]["storage"] = false.into()),
        (SCHEMA, |d| d["spec"]["versions"][0]["schema"] = json!({})),
        ("properties[spec].type", |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({})),
        ("properties[spec].$ref", |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["$ref"] = "x".into()),
        ("properties[spec].items", |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({"type": "array"})),
        ("properties[spec].pattern", |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({"type": "string", "pattern": "("})),
        ("properties[spec].default", |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({"type": "string", "default": 1})),
        ("anyOf[0].type", |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["anyOf"] = json!([{"type": "object"}])),
        ("specReplicasPath", |d| d["spec"]["versions"][0]["subresources"] = json!({"scale": {"specReplicasPath": ".x", "statusReplicasPath": ".status.n"}})),
        ("additionalPrinterColumns[0].jsonPath", |d| d["spec"]["versions"][0]["additionalPrinterColumns"] = json!([{"name": "A", "type": "string", "jsonPath": "spec"}])),
        ("spec.conversion.strategy", |d| d["spec"]["conversion"] = json!({"strategy": "Magic"})),
    ];
    for (expected, change) in table {
        let mut wrong = definition(json!({"type": "object"}));
        change(&mut wrong);
        let found = faults(&wrong);
        assert!(found.iter().any(|fault| fault.split(": ").next().is_some_and(|at| at.ends_with(expected))), "{expected}: {found:?}");
    }
}

#[test]
fn paths_lead_to_values() {
    let value = json!({"spec": {"n": 2, "list": [{"x": "a"}, {"x": "b"}]}, "metadata": {"annotations": {"a.b/c": "d"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Live", "status": "False"}]}});
    let table = [
        (".spec.n", json!([2])),
        (".spec.list[1].x", json!(["b"])),
        (".spec.list[-1].x", json!(["b"])),
        (".spec.list[*].x", json!(["a", "b"])),
        (r".metadata.annotations.a\.b/c", json!(["d"])),
        (".metadata.annotations['a.b/c']", json!(["d"])),
        (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
        (".status.conditions[?(@.type=='Live')].status", json!(["False"])),
        (".nothing.here", json!([])),
    ];
    for (path, expected) in table {
        assert_eq!(json!(Path::parse(path).expect(path).find(&value)), expected, "{path}");
    }
    for wrong in ["", "spec", ".spec[", ".spec[?(x)]", "..", ".a[b]"] {
        assert!(Path::parse(wrong).is_err(), "{wrong}");
    }
    let mut made = json!({});
    assert!(Path::parse(".spec.replicas").expect("a path").set(&mut made, 3.into()));
    assert_eq!(made, json!({"spec": {"replicas": 3}}));
}

#[test]
fn objects_in_files_find_their_definition() {
    let definitions = Definitions::of([&definition(widget())].into_iter());
    let (schema, namespaced) = definitions.of_object(&object(json!({}))).expect("defined");
    assert!(namespaced && !schema.validate(&object(json!({}))).is_empty());
    let mut other = object(json!({}));
    other["apiVersion"] = "acme.example/v2".into();
    assert!(definitions.of_object(&other).is_none());
}

#[test]
fn rules_that_are_not_evaluated_are_said_so() {
    let rule = json!([{"rule": "self.size > 1"}]);
    let definition = definition(json!({"type": "object", "x-kubernetes-validations": rule}));
    assert_eq!(faults(&definition), Vec::<String>::new());
    assert_eq!(unchecked(&definition).len(), 1);
}
