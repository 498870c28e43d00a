//! OpenAPI v3: the operations, the options they take, and the schemas of the kinds, from which
//! `kubectl explain` reads and by which fields are checked here (`fieldValidation`).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use kilter_objects::schema;
use serde_json::{Map, Value, json};

use crate::custom::Catalogue;
use crate::resources::Resource;
use crate::respond::{self, Answer};
use crate::status::Status;

/// A document per group and version of the published list, by its path, written once.
fn built_in() -> &'static BTreeMap<String, Bytes> {
    static DOCUMENTS: OnceLock<BTreeMap<String, Bytes>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let mut resources: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
        for resource in Resource::all() {
            resources.entry(base(resource)).or_default().push(resource);
        }
        resources.into_iter().map(|(path, of)| (path, document_of(&of).to_string().into())).collect()
    })
}

/// All documents: those with custom resources are written anew, for definitions change.
fn documents(served: &Catalogue) -> BTreeMap<String, Bytes> {
    let mut documents = built_in().clone();
    let all = served.all();
    for path in all.iter().filter(|r| r.custom.is_some()).map(|r| base(r)).collect::<BTreeSet<_>>() {
        documents.insert(path.clone(), with_custom(&all, &path));
    }
    documents
}

fn with_custom(all: &[&'static Resource], path: &str) -> Bytes {
    let of: Vec<&Resource> = all.iter().copied().filter(|r| base(r) == path).collect();
    document_of(&of).to_string().into()
}

/// `/openapi/v2`, which describes nothing: schemas are those of version 3. `kubectl` asks for it before it
/// applies a `kind: List`, leaves out what it does not find there, and has each object of the list
/// checked by the server all the same. It reads no other form than this (gnostic's `Document` in
/// protobuf, of which only the version, field 1, is set).
pub fn version_2() -> Answer {
    let mut answer = respond::json_bytes(StatusCode::OK, &b"\x0a\x032.0"[..]);
    let form = HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    answer.headers_mut().insert(CONTENT_TYPE, form);
    answer
}

/// `/openapi/v3`.
pub fn index(served: &Catalogue) -> Answer {
    let mut paths = Map::new();
    for (path, document) in documents(served) {
        // By the hash clients know whether the document that they have is still the right one.
        let mut hasher = DefaultHasher::new();
        document.hash(&mut hasher);
        let url = format!("/openapi/v3/{path}?hash={:016X}", hasher.finish());
        paths.insert(path.clone(), json!({"serverRelativeURL": url}));
    }
    respond::json(StatusCode::OK, &json!({"paths": paths}))
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`.
///
/// # Errors
/// 404.
pub fn document(served: &Catalogue, group: &str, version: &str) -> Result<Answer, Status> {
    let (path, all) = (path_of(group, version), served.all());
    let document = match all.iter().any(|r| r.custom.is_some() && base(r) == path) {
        true => with_custom(&all, &path),
        false => built_in().get(&path).ok_or_else(Status::unknown_path)?.clone(),
    };
    Ok(respond::json_bytes(StatusCode::OK, document))
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn base(resource: &Resource) -> String {
    path_of(resource.kind.group, resource.kind.version)
}

fn document_of(resources: &[&Resource]) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in resources {
        let kind = resource.kind;
        let namespaces = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/{}{namespaces}/{}", base(resource), kind.plural);
        paths.insert(format!("{collection}/{{name}}"), object_path(resource));
        paths.insert(collection, collection_path(resource));
        match schema::definition_of(kind) {
            Some(name) => add_schema(name, &mut schemas),
            None => {
                let schema = match &resource.custom {
                    Some(custom) => custom_schema(resource, custom.now().structural.schema()),
                    None => open_schema(resource),
                };
                add_references(&schema, &mut schemas);
                schemas.insert(schema_name(resource), schema);
            }
        }
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kilter", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths, "components": {"schemas": schemas}})
}

/// Adds a definition and all that it refers to.
fn add_schema(name: &str, schemas: &mut Map<String, Value>) {
    if schemas.contains_key(name) {
        return;
    }
    let Some(definition) = schema::definitions().get(name) else { return };
    schemas.insert(name.to_owned(), definition.clone());
    add_references(definition, schemas);
}

fn add_references(value: &Value, schemas: &mut Map<String, Value>) {
    match value {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            if let Some(name) = reference.and_then(|r| r.strip_prefix("#/components/schemas/")) {
                add_schema(name, schemas);
            }
            map.values().for_each(|value| add_references(value, schemas));
        }
        Value::Array(items) => items.iter().for_each(|value| add_references(value, schemas)),
        _ => {}
    }
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.kind.group, "version": resource.kind.version, "kind": resource.kind.kind})
}

fn schema_name(resource: &Resource) -> String {
    if let Some(name) = schema::definition_of(resource.kind) {
        return name.to_owned();
    }
    // As Kubernetes names them: `example.acme.v1.Widget`.
    let reversed: Vec<&str> = resource.kind.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), resource.kind.version, resource.kind.kind)
}

fn custom_schema(resource: &Resource, schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
    schema
}

/// For a kind whose fields are not described here.
fn open_schema(resource: &Resource) -> Value {
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-group-version-kind": [gvk(resource)],
        "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}},
    })
}

fn operation(resource: &Resource, action: &str, parameters: &[&str]) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    let reference = json!({"$ref": format!("#/components/schemas/{}", schema_name(resource))});
    let mut operation = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(resource),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
    });
    if matches!(action, "post" | "put") {
        operation["requestBody"] = json!({"content": {
            "application/json": {"schema": reference}, "application/yaml": {"schema": reference},
        }});
    }
    if action == "patch" {
        // Strategic merge patches are taken too, but the schemas do not say how lists merge in
        // them, so a client must not compute them from this document: kubectl uses its own types.
        operation["requestBody"] = json!({"content": {
            "application/json-patch+json": {"schema": {"type": "array"}},
            "application/merge-patch+json": {"schema": {"type": "object"}},
            "application/apply-patch+yaml": {"schema": {"type": "object"}},
        }});
    }
    operation
}

fn collection_path(resource: &Resource) -> Value {
    let list = [
        "labelSelector",
        "fieldSelector",
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "watch",
    ];
    json!({
        "get": operation(resource, "list", &list),
        "post": operation(resource, "post", &["dryRun", "fieldManager", "fieldValidation"]),
        "delete": operation(resource, "deletecollection", &["labelSelector", "fieldSelector", "dryRun"]),
    })
}

fn object_path(resource: &Resource) -> Value {
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let patch = ["dryRun", "fieldManager", "fieldValidation", "force"];
    json!({
        "get": operation(resource, "get", &[]),
        "put": operation(resource, "put", &write),
        "patch": operation(resource, "patch", &patch),
        "delete": operation(resource, "delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
    })
}
