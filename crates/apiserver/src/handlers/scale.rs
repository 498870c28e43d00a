//! The scale subresource: `autoscaling/v1` Scale, over `spec.replicas`.

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use kilter_objects::custom::Path;
use serde_json::{Value, json};

use super::patch::Format;
use crate::api::Api;
use crate::body;
use crate::decode;
use crate::registry::Part;
use crate::request::{Query, Target, WriteOptions};
use crate::respond::{self, Answer};
use crate::status::{Cause, Status};
use crate::table::selector_text;

/// GET, PUT and PATCH of `/scale`.
pub async fn scale(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let object = match *request.method() {
        Method::GET => api.registry.get(&target)?,
        Method::PUT => {
            let options = WriteOptions::parse("UpdateOptions", query, request.headers())?;
            let (wanted, _) = body::document(request).await?;
            let mut change = |object: Value| with_scale(&target, object, &wanted);
            api.registry.modify(&target, Part::Main, &options.intent(), &mut change)?
        }
        Method::PATCH => {
            let options = WriteOptions::parse("PatchOptions", query, request.headers())?;
            let format = Format::of(body::media_type(request.headers()))?;
            let (patch, _) = decode::json(&body::read(request.into_body()).await?)?;
            let mut change = |object: Value| {
                let mut wanted = scale_of(&target, &object);
                format.apply(&mut wanted, &patch)?;
                with_scale(&target, object, &wanted)
            };
            api.registry.modify(&target, Part::Main, &options.intent(), &mut change)?
        }
        _ => return Err(Status::method_not_allowed()),
    };
    Ok(respond::json(StatusCode::OK, &scale_of(&target, &object.value())))
}

/// How many are wanted, how many there are, and by which labels they are selected.
fn counts(target: &Target, object: &Value) -> (i64, i64, String) {
    if let Some(custom) = &target.resource.custom {
        let version = custom.now();
        let Some(scale) = &version.scale else { return (0, 0, String::new()) };
        let number = |path: &Path| path.find(object).first().and_then(|v| v.as_i64()).unwrap_or(0);
        let selector = scale.selector.as_ref().and_then(|path| path.find(object).first()?.as_str().map(str::to_owned));
        return (number(&scale.spec), number(&scale.status), selector.unwrap_or_default());
    }
    let selector = &object["spec"]["selector"];
    let selector = match object["kind"].as_str() {
        Some("ReplicationController") => json!({"matchLabels": selector}),
        _ => selector.clone(),
    };
    let replicas = |half: &str| object[half]["replicas"].as_i64().unwrap_or(0);
    (replicas("spec"), replicas("status"), selector_text(&selector))
}

fn scale_of(target: &Target, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let (wanted, present, selector) = counts(target, object);
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": wanted},
        "status": {"replicas": present, "selector": selector},
    })
}

fn with_scale(target: &Target, mut object: Value, wanted: &Value) -> Result<Value, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    if wanted["kind"].as_str().is_some_and(|k| k != "Scale") {
        return Err(Status::bad_request("the body of the request must be a Scale"));
    }
    let replicas = &wanted["spec"]["replicas"];
    let count = match replicas {
        Value::Null => 0,
        given => given.as_i64().ok_or_else(|| Status::bad_request("spec.replicas must be a whole number"))?,
    };
    if !(0..=i64::from(i32::MAX)).contains(&count) {
        let why = "must be greater than or equal to 0";
        return Err(Status::invalid(
            target.resource,
            name,
            vec![Cause::invalid("spec.replicas", replicas, why)],
        ));
    }
    match &target.resource.custom {
        None => object["spec"]["replicas"] = count.into(),
        Some(custom) => {
            let version = custom.now();
            let set = version.scale.as_ref().is_some_and(|scale| scale.spec.set(&mut object, count.into()));
            if !set {
                return Err(Status::bad_request("the object has no place for its scale"));
            }
        }
    }
    for condition in ["resourceVersion", "uid", "name"] {
        let asked = &wanted["metadata"][condition];
        if asked.as_str().is_some_and(|a| !a.is_empty()) {
            object["metadata"][condition] = asked.clone();
        }
    }
    Ok(object)
}
