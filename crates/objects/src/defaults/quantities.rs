use serde_json::{Map, Value};

use super::{Fields, child, children};

/// Quantities may be written as numbers; the API keeps them as text. For the kinds that are only
/// stored (pods are in `pod`).
pub(super) fn stored(kind: &str, fields: &mut Fields) {
    let Some(spec) = child(fields, "spec") else { return };
    match kind {
        "PersistentVolume" => list(spec, "capacity"),
        "PersistentVolumeClaim" => {
            if let Some(resources) = child(spec, "resources") {
                resource_list(resources);
            }
        }
        "ResourceQuota" => list(spec, "hard"),
        "LimitRange" => {
            for limit in children(spec, "limits") {
                for name in ["default", "defaultRequest", "max", "maxLimitRequestRatio", "min"] {
                    list(limit, name);
                }
            }
        }
        "HorizontalPodAutoscaler" => {
            for metric in children(spec, "metrics") {
                metric.values_mut().filter_map(Value::as_object_mut).for_each(target);
            }
        }
        _ => {}
    }
}

/// `limits` and `requests`.
pub(super) fn resource_list(resources: &mut Map<String, Value>) {
    list(resources, "limits");
    list(resources, "requests");
}

/// One quantity.
pub(super) fn quantity(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(number.to_string());
    }
}

fn list(fields: &mut Fields, name: &str) {
    if let Some(quantities) = child(fields, name) {
        quantities.values_mut().for_each(quantity);
    }
}

fn target(metric: &mut Fields) {
    let Some(target) = child(metric, "target") else { return };
    for name in ["averageValue", "value"] {
        if let Some(it) = target.get_mut(name) {
            quantity(it);
        }
    }
}
