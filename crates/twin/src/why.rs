//! Why a pod is not ready, in the words of its own status.

use std::collections::BTreeMap;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use crate::status::PodState;

/// Fills in `why` where the API tells it. What cannot be asked stays unexplained: the state itself
/// has been told already.
pub async fn explain(client: &Client, pods: &mut [PodState]) {
    let objects = list(client, "Pod").await;
    let warnings = latest_warnings(&list(client, "Event").await);
    for pod in pods.iter_mut().filter(|pod| !pod.is_well()) {
        let object = objects.iter().find(|object| name(object) == pod.name);
        let waits = object.and_then(|object| from_status(&object.data["status"]));
        let warning = warnings.get(&pod.name).cloned();
        pod.why = match (waits, warning) {
            (Some(waits), Some(warning)) if !warning.contains(&waits) => Some(format!("{waits}; {warning}")),
            (waits, warning) => warning.or(waits),
        };
    }
}

async fn list(client: &Client, kind: &str) -> Vec<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    api.list(&ListParams::default()).await.map_or_else(|_| Vec::new(), |list| list.items)
}

fn name(object: &DynamicObject) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&object.metadata.namespace), text(&object.metadata.name))
}

/// A container that waits says why; before there are containers, the scheduler does.
fn from_status(status: &Value) -> Option<String> {
    let containers = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| status[list].as_array().into_iter().flatten());
    for container in containers {
        let waiting = &container["state"]["waiting"];
        if let Some(reason) = waiting["reason"].as_str() {
            let message = waiting["message"].as_str().map_or_else(String::new, |message| format!(" ({message})"));
            return Some(format!("container {}: {reason}{message}", container["name"].as_str().unwrap_or("?")));
        }
    }
    let conditions = status["conditions"].as_array()?;
    let unmet = |kind: &str| conditions.iter().find(|c| c["type"] == kind && c["status"] == "False");
    ["PodScheduled", "Initialized", "ContainersReady"].iter().find_map(|kind| {
        let condition = unmet(kind)?;
        condition["message"].as_str().or(condition["reason"].as_str()).map(str::to_owned)
    })
}

/// The newest warning about each pod.
fn latest_warnings(events: &[DynamicObject]) -> BTreeMap<String, String> {
    let mut newest: BTreeMap<String, (String, String)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.data["type"] == "Warning") {
        let about = &event.data["involvedObject"];
        if about["kind"] != "Pod" {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pod = format!("{}/{}", text(&about["namespace"]), text(&about["name"]));
        // Both are RFC 3339 in UTC, so they compare as text.
        let at = match text(&event.data["lastTimestamp"]) {
            empty if empty.is_empty() => text(&event.data["eventTime"]),
            at => at,
        };
        let told = format!("{}: {}", text(&event.data["reason"]), text(&event.data["message"]));
        let entry = newest.entry(pod).or_default();
        if at >= entry.0 {
            *entry = (at, told);
        }
    }
    newest.into_iter().map(|(pod, (_, told))| (pod, told)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_waiting_container_comes_before_conditions() {
        let status = json!({
            "conditions": [{"type": "ContainersReady", "status": "False", "message": "not all are ready"}],
            "containerStatuses": [
                {"name": "ok", "state": {"running": {}}},
                {"name": "web", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}},
            ],
        });
        assert_eq!(from_status(&status).unwrap(), "container web: CrashLoopBackOff (back-off 10s)");
        let unscheduled = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"},
        ]});
        assert_eq!(from_status(&unscheduled).unwrap(), "0/3 nodes are available");
        assert_eq!(from_status(&json!({})), None);
    }

    #[test]
    fn the_newest_warning_counts() {
        let event = |kind: &str, at: &str, message: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": message, "namespace": "shop"},
                "type": kind, "reason": "Unhealthy", "message": message, "lastTimestamp": at,
                "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web"},
            }))
            .unwrap()
        };
        let events = [
            event("Warning", "2026-01-01T00:00:02Z", "newest"),
            event("Warning", "2026-01-01T00:00:01Z", "older"),
            event("Normal", "2026-01-01T00:00:03Z", "not a warning"),
        ];
        assert_eq!(latest_warnings(&events)["shop/web"], "Unhealthy: newest");
    }
}
