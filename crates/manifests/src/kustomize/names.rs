//! Names and namespaces.

use serde_json::Value;

use super::resource::Resource;

/// `namePrefix` and `nameSuffix`. Names that mean something by themselves stay.
pub(super) fn affixes(resources: &mut [Resource], prefix: &str, suffix: &str) {
    const FIXED: &[&str] = &["CustomResourceDefinition", "APIService", "Namespace"];
    if prefix.is_empty() && suffix.is_empty() {
        return;
    }
    for resource in resources {
        // Also those that keep their names: they tell to which overlay their references belong.
        resource.affixes.push((prefix.to_owned(), suffix.to_owned()));
        if !FIXED.contains(&resource.kind()) {
            let name = format!("{prefix}{}{suffix}", resource.name());
            resource.rename("name", &name);
        }
    }
}

/// `namespace`: of all that lives in one, of Namespace objects by name, and of `default` service
/// accounts among the subjects of bindings (which no resource here declares).
pub(super) fn namespace(resources: &mut [Resource], namespace: &str) {
    if namespace.is_empty() {
        return;
    }
    for resource in resources {
        if resource.kind() == "Namespace" && resource.group_version().0.is_empty() {
            resource.rename("name", namespace);
        } else if resource.namespaced() {
            resource.rename("namespace", namespace);
        }
        if resource.kind().ends_with("RoleBinding") {
            super::paths::visit(&mut resource.value, "subjects", false, &mut |subject| {
                if subject["kind"] == "ServiceAccount" && subject["name"] == "default" {
                    subject["namespace"] = Value::from(namespace);
                }
            });
        }
    }
}
