use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// `status.qosClass` (Kubernetes, "Pod Quality of Service Classes").
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let containers: Vec<&Container> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
    let none_asks = containers.iter().all(|c| ["cpu", "memory"].iter().all(|r| asks(c, r) == (None, None)));
    if none_asks {
        return "BestEffort";
    }
    let all_bounded = containers.iter().all(|c| {
        ["cpu", "memory"].iter().all(|resource| match asks(c, resource) {
            (Some(limit), Some(request)) => limit == request,
            // A limit without a request is its own request.
            (Some(_), None) => true,
            (None, _) => false,
        })
    });
    if all_bounded { "Guaranteed" } else { "Burstable" }
}

/// Limit and request of one resource; a quantity of zero is none.
fn asks<'a>(container: &'a Container, resource: &str) -> (Option<&'a str>, Option<&'a str>) {
    let get = |list: Option<&'a BTreeMap<String, Quantity>>| {
        list?.get(resource).map(|quantity| quantity.0.as_str()).filter(|quantity| *quantity != "0")
    };
    let resources = container.resources.as_ref();
    (get(resources.and_then(|r| r.limits.as_ref())), get(resources.and_then(|r| r.requests.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn classes_follow_limits_and_requests() {
        let class = |resources: Value| {
            qos_class(
                &serde_json::from_value(json!({"containers": [{"name": "c", "resources": resources}]}))
                    .unwrap(),
            )
        };
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "100m"}})), "Burstable");
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"limits": both, "requests": both})), "Guaranteed");
        assert_eq!(class(json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}})), "Burstable");
    }
}
