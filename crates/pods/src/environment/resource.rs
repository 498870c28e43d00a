use k8s_openapi::api::core::v1::{Container, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// `resourceFieldRef`: a limit or request of the container, in units of the divisor and rounded
/// up. `None` when it is not declared (a real kubelet then tells the node's whole capacity) or
/// makes no sense.
pub fn resource(selector: &ResourceFieldSelector, container: &Container) -> Option<String> {
    let resources = container.resources.as_ref()?;
    let (kind, name) = selector.resource.split_once('.')?;
    let declared = match kind {
        "limits" => resources.limits.as_ref()?.get(name),
        "requests" => resources.requests.as_ref()?.get(name).or_else(|| resources.limits.as_ref()?.get(name)),
        _ => None,
    }?;
    let value = milli(declared)?;
    let divisor = selector.divisor.as_ref().and_then(milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
    Some(((value + divisor - 1) / divisor).to_string())
}

/// A quantity in thousandths (apimachinery `resource.Quantity`).
fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let thousandths = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1000_i128.pow(2),
        "M" => 1000_i128.pow(3),
        "G" => 1000_i128.pow(4),
        "T" => 1000_i128.pow(5),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some((digits.checked_mul(thousandths)? + scale - 1) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_told_in_units_of_the_divisor() {
        let container: Container = serde_json::from_value(serde_json::json!({"name": "c", "resources": {
            "limits": {"cpu": "1500m", "memory": "0.5Gi"}, "requests": {"memory": "100M"}}}))
        .unwrap();
        let table = [
            ("limits.cpu", None, Some("2")),
            ("limits.cpu", Some("1m"), Some("1500")),
            ("requests.cpu", Some("1m"), Some("1500")),
            ("limits.memory", Some("1Mi"), Some("512")),
            ("requests.memory", None, Some("100000000")),
            ("limits.ephemeral-storage", None, None),
        ];
        for (name, divisor, expected) in table {
            let divisor = divisor.map(|text: &str| Quantity(text.into()));
            let selector = ResourceFieldSelector { resource: name.into(), divisor, container_name: None };
            assert_eq!(resource(&selector, &container).as_deref(), expected, "{name}");
        }
    }
}
