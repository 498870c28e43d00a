//! What only pods have: binding and eviction.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::api::Api;
use crate::body;
use crate::meta;
use crate::registry::Part;
use crate::request::{DeleteOptions, Query, Target, WriteOptions};
use crate::resources::Resource;
use crate::respond::{self, Answer};
use crate::status::Status;

fn success(code: StatusCode) -> Answer {
    respond::json(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code.as_u16()}),
    )
}

async fn read(request: Request<Incoming>, kind: &str) -> Result<Value, Status> {
    let (value, _) = body::document(request).await?;
    match value["kind"].as_str() {
        None | Some("") if value.is_object() => Ok(value),
        Some(found) if found == kind => Ok(value),
        _ => Err(Status::bad_request(format!("the body of the request must be a {kind}"))),
    }
}

/// POST of a Binding: the pod goes to a node.
pub async fn bind(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let options = WriteOptions::parse("CreateOptions", query, request.headers())?;
    let binding = read(request, "Binding").await?;
    let node = binding["target"]["name"].as_str().filter(|n| !n.is_empty());
    let node = node.ok_or_else(|| Status::bad_request("target.name: Required value"))?;
    let name = target.name.as_deref().unwrap_or_default();
    let mut change = |mut pod: Value| {
        let found = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !found.is_empty() {
            let why = format!("pod {name} is already assigned to node \"{found}\"");
            return Err(Status::conflict(target.resource, name, &why));
        }
        if meta::deleting(&pod) {
            let why = format!("pod {name} is being deleted, cannot be assigned to a host");
            return Err(Status::conflict(target.resource, name, &why));
        }
        let wanted = meta::text(&binding, "uid");
        if !wanted.is_empty() && wanted != meta::text(&pod, "uid") {
            return Err(Status::conflict(target.resource, name, "the UID in the binding is not the pod's"));
        }
        pod["spec"]["nodeName"] = node.into();
        set_scheduled(&mut pod);
        Ok(pod)
    };
    api.registry.modify(&target, Part::Whole, &options.intent(), &mut change)?;
    Ok(success(StatusCode::CREATED))
}

fn set_scheduled(pod: &mut Value) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": meta::now()});
    let status = &mut pod["status"];
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|c| c["type"] != "PodScheduled");
        conditions.push(condition);
    }
}

/// POST of an Eviction: a deletion that disruption budgets may refuse. Budgets are stored here but
/// nobody computes their status, so one that covers the pod refuses, as one that is not yet
/// computed does in Kubernetes.
pub async fn evict(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let eviction = read(request, "Eviction").await?;
    let options = DeleteOptions::parse(query, &eviction["deleteOptions"])?;
    let pod = api.registry.get(&target)?;
    if let Some(budget) = covering_budget(api, &pod) {
        return Err(Status::too_many_requests(format!(
            "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget {budget} is \
             still being processed by the server."
        )));
    }
    api.registry.delete(&target, &options)?;
    Ok(success(StatusCode::CREATED))
}

fn covering_budget(api: &Api, pod: &crate::store::Object) -> Option<String> {
    let budgets = Resource::find("policy", "v1", "poddisruptionbudgets")?;
    let (_, all) = api.registry.store.list(budgets, Some(&pod.key.namespace));
    let covers = |budget: &Value| {
        let selector = serde_json::from_value(budget["spec"]["selector"].clone()).ok();
        selector.is_some_and(|s| kilter_objects::selector(&s).is_ok_and(|s| s.matches(&pod.labels)))
    };
    all.into_iter().find(|b| covers(&b.value())).map(|b| b.key.name.to_string())
}
