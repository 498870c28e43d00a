use kilter_objects::custom::unchecked;
use serde_json::{Value, json};

use super::{CLEANUP, Catalogue};
use crate::meta;
use crate::resources::Resource;
use crate::status::{Cause, Status};

/// Writes into a valid definition what the server says of it: it is served at once. `before` is
/// null for a new one.
///
/// # Errors
/// 422 for names that another resource of the group has.
pub fn accept(catalogue: &Catalogue, resource: &Resource, before: &Value, value: &mut Value) -> Result<(), Status> {
    if let Some(taken) = catalogue.taken(value) {
        let why = format!("plural, singular, short names or kind are those of {}", taken.group_resource());
        let cause = Cause::invalid("spec.names", &value["spec"]["names"], &why);
        return Err(Status::invalid(resource, meta::text(value, "name"), vec![cause]));
    }
    let versions = value["spec"]["versions"].as_array().map_or(0, Vec::len);
    if versions > 1 && value["spec"]["conversion"]["strategy"] == "Webhook" {
        let why = "conversion by webhook is not done here: serve one version, or versions that differ in their name only (None)";
        let cause = Cause::invalid("spec.conversion.strategy", &"Webhook".into(), why);
        return Err(Status::invalid(resource, meta::text(value, "name"), vec![cause]));
    }
    if before.is_null() && !meta::finalizers(value).any(|f| f == CLEANUP) {
        let finalizers: Vec<String> = meta::finalizers(value).map(str::to_owned).chain([CLEANUP.to_owned()]).collect();
        meta::metadata(value).insert("finalizers".into(), json!(finalizers));
    }
    let storage = value["spec"]["versions"].as_array().into_iter().flatten().find(|v| v["storage"] == true);
    let storage = storage.map(|v| v["name"].clone()).unwrap_or_default();
    let mut stored: Vec<Value> = before["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    let conditions = match before["status"]["conditions"].as_array() {
        Some(conditions) if !conditions.is_empty() => json!(conditions),
        _ => json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]),
    };
    value["status"] =
        json!({"acceptedNames": value["spec"]["names"], "conditions": conditions, "storedVersions": stored});
    Ok(())
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": meta::now()})
}

/// What somebody who writes an object of this resource should know.
pub fn warnings(resource: &Resource, value: &Value) -> Vec<String> {
    if let Some(custom) = &resource.custom {
        return custom.now().deprecation.iter().cloned().collect();
    }
    if resource.kind.kind != "CustomResourceDefinition" {
        return vec![];
    }
    let spec = &value["spec"];
    let built_in =
        Resource::all().iter().any(|r| spec["group"] == r.kind.group && spec["names"]["plural"] == r.kind.plural);
    let built_in = built_in.then(|| format!("{} is built in here: the definition is kept and changes nothing", meta::text(value, "name")));
    unchecked(value).into_iter().chain(built_in).collect()
}
