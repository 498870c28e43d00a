use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::api::Api;
use crate::body;
use crate::negotiate;
use crate::registry::{Deletion, key_target};
use crate::render::Renderer;
use crate::request::{DeleteOptions, ListOptions, Query, Target};
use crate::respond::{self, Answer};
use crate::status::Status;

/// DELETE of one object.
pub async fn delete(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let renderer = Renderer::new(target.resource, negotiate::form(request.headers())?, query)?;
    let body = options(request).await?;
    let deletion = api.registry.delete(&target, &DeleteOptions::parse(query, &body)?)?;
    Ok(answer(&renderer, &target, &deletion))
}

/// The state of an object that is still there; else that it is gone.
fn answer(renderer: &Renderer, target: &Target, deletion: &Deletion) -> Answer {
    // Kubernetes answers with the last state for these, with a Status for the others.
    let shown = matches!(target.resource.kind.kind, "Pod" | "Service" | "ServiceAccount");
    if !deletion.gone || shown {
        return respond::json_bytes(StatusCode::OK, renderer.object(&deletion.object));
    }
    let mut details = json!({"name": *deletion.object.key.name, "kind": target.resource.kind.plural, "uid": *deletion.object.uid});
    if !target.resource.kind.group.is_empty() {
        details["group"] = target.resource.kind.group.into();
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    respond::json(StatusCode::OK, &status)
}

/// DELETE of a collection.
pub async fn delete_collection(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let renderer = Renderer::new(target.resource, negotiate::form(request.headers())?, query)?;
    let selection = ListOptions::parse(target.resource, target.namespace.as_deref(), query)?.selection;
    let body = options(request).await?;
    let options = DeleteOptions::parse(query, &body)?;
    let (_, all) = api.registry.store.list(target.resource, target.namespace.as_deref());
    let mut deleted = Vec::new();
    for object in all.into_iter().filter(|o| selection.matches(o)) {
        match api.registry.delete(&key_target(target.resource, &object.key), &options) {
            Ok(deletion) => deleted.push(deletion.object),
            // Somebody else was faster.
            Err(status) if status.reason == "NotFound" => {}
            Err(status) => return Err(status),
        }
    }
    let metadata = json!({"resourceVersion": api.registry.store.revision().to_string()});
    let pieces = renderer.list(&deleted, metadata);
    Ok(respond::json_body(StatusCode::OK, respond::stream(futures::stream::iter(pieces))))
}

/// The DeleteOptions in the body; null where there is none.
async fn options(request: Request<Incoming>) -> Result<Value, Status> {
    let (value, _) = body::document(request).await?;
    if value.is_null() {
        return Ok(value);
    }
    match value["kind"].as_str() {
        None | Some("" | "DeleteOptions") if value.is_object() => Ok(value),
        _ => Err(Status::bad_request("the body of a deletion must be DeleteOptions")),
    }
}
