//! OpenAPI v3: which operations exist and which options they take. The schemas are open: fields are
//! checked by the server (`fieldValidation`), which is what these documents tell clients.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::resources::Resource;
use crate::respond::{self, Answer};
use crate::status::Status;

/// `/openapi/v3`.
pub fn index() -> Answer {
    let mut paths = Map::new();
    for resource in Resource::all() {
        let path = base(resource);
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    respond::json(StatusCode::OK, &json!({"paths": paths}))
}

fn base(resource: &Resource) -> String {
    let kind = resource.kind;
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`.
///
/// # Errors
/// 404.
pub fn document(group: &str, version: &str) -> Result<Answer, Status> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in Resource::all().iter().filter(|r| r.kind.group == group && r.kind.version == version) {
        let kind = resource.kind;
        let namespaces = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/{}{namespaces}/{}", base(resource), kind.plural);
        paths.insert(format!("{collection}/{{name}}"), object_path(resource));
        paths.insert(collection, collection_path(resource));
        schemas.insert(schema_name(resource), schema(resource));
    }
    if paths.is_empty() {
        return Err(Status::unknown_path());
    }
    let value = json!({"openapi": "3.0.0", "info": {"title": "Kilter", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths, "components": {"schemas": schemas}});
    Ok(respond::json(StatusCode::OK, &value))
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.kind.group, "version": resource.kind.version, "kind": resource.kind.kind})
}

fn schema_name(resource: &Resource) -> String {
    let group = if resource.kind.group.is_empty() { "core" } else { resource.kind.group };
    format!("{group}.{}.{}", resource.kind.version, resource.kind.kind)
}

fn schema(resource: &Resource) -> Value {
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
        operation["requestBody"] = json!({"content": {"application/json": {"schema": reference}}});
    }
    if action == "patch" {
        // Strategic merge patches are taken too, but without complete schemas a client must not
        // compute them from this document: kubectl then uses its own types.
        operation["requestBody"] = json!({"content": {
            "application/json-patch+json": {"schema": {"type": "array"}},
            "application/merge-patch+json": {"schema": {"type": "object"}},
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
        "post": operation(resource, "post", &["dryRun", "fieldValidation"]),
        "delete": operation(resource, "deletecollection", &["labelSelector", "fieldSelector", "dryRun"]),
    })
}

fn object_path(resource: &Resource) -> Value {
    json!({
        "get": operation(resource, "get", &[]),
        "put": operation(resource, "put", &["dryRun", "fieldValidation"]),
        "patch": operation(resource, "patch", &["dryRun", "fieldValidation"]),
        "delete": operation(resource, "delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
    })
}
