//! `ObjectMeta` as the API server keeps it: identity, time, generation.

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::request::Target;
use crate::resources::Resource;
use crate::status::{Cause, Status};

/// How long a name may be where a suffix is added to it.
const GENERATED_BASE: usize = 58;

/// Now, as `metav1.Time` is written: UTC, whole seconds.
pub fn now() -> String {
    time(Timestamp::now())
}

/// A moment as `metav1.Time` is written.
pub fn time(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A string in `metadata`; empty when absent.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value["metadata"][key].as_str().unwrap_or_default()
}

/// The finalizers.
pub fn finalizers(value: &Value) -> impl Iterator<Item = &str> {
    value["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether deletion has begun.
pub fn deleting(value: &Value) -> bool {
    value["metadata"]["deletionTimestamp"].is_string()
}

/// `metadata` as a map.
///
/// # Panics
/// Where it is none; [`crate::decode::object`] sees to it that it is.
pub fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    value["metadata"].as_object_mut().expect("decoded objects have metadata")
}

/// Makes the namespace of an object that of the request.
///
/// # Errors
/// 400 where the object names another.
pub fn set_namespace(target: &Target, value: &mut Value) -> Result<(), Status> {
    let found = text(value, "namespace");
    if !target.resource.kind.namespaced {
        if !found.is_empty() {
            let cause = Cause::forbidden("metadata.namespace", "not allowed on this type");
            return Err(Status::invalid(target.resource, text(value, "name"), vec![cause]));
        }
        return Ok(());
    }
    if !found.is_empty() && found != target.namespace() {
        return Err(Status::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request ({found}, {})",
            target.namespace()
        )));
    }
    let namespace = target.namespace().into();
    metadata(value).insert("namespace".into(), namespace);
    Ok(())
}

/// Gives a new object its identity. The name is left alone.
///
/// # Errors
/// 400 where the client chose a revision.
pub fn begin(resource: &Resource, value: &mut Value) -> Result<(), Status> {
    if !matches!(text(value, "resourceVersion"), "" | "0") {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let metadata = metadata(value);
    for server_side in [
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        metadata.remove(server_side);
    }
    metadata.insert("uid".into(), Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), now().into());
    if resource.generation {
        metadata.insert("generation".into(), 1.into());
    }
    Ok(())
}

/// Whether the name must be made from `generateName`.
pub fn is_generated(value: &Value) -> bool {
    text(value, "name").is_empty() && !text(value, "generateName").is_empty()
}

/// Makes a name from `generateName` and five random characters.
pub fn generate_name(value: &mut Value) {
    /// No vowels and no look-alikes, so that names spell nothing (apimachinery `rand.String`).
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let base: String = text(value, "generateName").chars().take(GENERATED_BASE).collect();
    let random = Uuid::new_v4();
    let suffix = random.as_bytes()[..5].iter().map(|b| LETTERS[*b as usize % LETTERS.len()] as char);
    let name: String = base.chars().chain(suffix).collect();
    metadata(value).insert("name".into(), name.into());
}

/// What every name must be: there, and fit for a URL. Kinds ask for more (`objects::validate`).
pub fn check_name(resource: &Resource, value: &Value) -> Result<(), Status> {
    let name = text(value, "name");
    let refuse = |cause| Err(Status::invalid(resource, name, vec![cause]));
    if name.is_empty() {
        return refuse(Cause::required("metadata.name", "name or generateName is required"));
    }
    if name == "." || name == ".." || name.contains(['/', '%']) {
        let why = "may not be '.' or '..' and may not contain '/' or '%'";
        return refuse(Cause::invalid("metadata.name", &name.into(), why));
    }
    if name.len() > 253 {
        return refuse(Cause {
            field: "metadata.name".into(),
            message: "Too long: may not be more than 253 bytes".into(),
        });
    }
    Ok(())
}

/// Carries over what an update cannot change.
///
/// # Errors
/// 422 where the client tries to change it all the same.
pub fn carry_over(resource: &Resource, before: &Value, value: &mut Value) -> Result<(), Status> {
    let mut causes = Vec::new();
    for fixed in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let old = &before["metadata"][fixed];
        let new = &value["metadata"][fixed];
        if !new.is_null() && !same(new, old) && fixed != "uid" {
            causes.push(Cause::invalid(format!("metadata.{fixed}"), new, "field is immutable"));
        }
        let old = old.clone();
        set_or_remove(metadata(value), fixed, old);
    }
    if deleting(before) {
        let added: Vec<&str> = finalizers(value).filter(|f| finalizers(before).all(|b| b != *f)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
    if !causes.is_empty() {
        return Err(Status::invalid(resource, text(before, "name"), causes));
    }
    for server_side in ["generation", "generateName"] {
        let old = before["metadata"][server_side].clone();
        set_or_remove(metadata(value), server_side, old);
    }
    metadata(value).remove("selfLink");
    Ok(())
}

/// Whether two values are one: a moment may be written in several ways (`Z`, `+00:00`).
fn same(a: &Value, b: &Value) -> bool {
    let moment = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    a == b || moment(a).is_some_and(|a| Some(a) == moment(b))
}

fn set_or_remove(map: &mut Map<String, Value>, key: &str, value: Value) {
    if value.is_null() {
        map.remove(key);
    } else {
        map.insert(key.to_owned(), value);
    }
}

/// Counts a change of what is wanted: anything but metadata and status. A custom resource without
/// that subresource has no status that is not wanted.
pub fn bump_generation(resource: &Resource, before: &Value, value: &mut Value) {
    let status_counts = resource.custom.is_some() && !resource.kind.status;
    let status_differs = status_counts && before["status"] != value["status"];
    if resource.generation && (status_differs || wanted_differs(before, value)) {
        let generation = before["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        metadata(value).insert("generation".into(), generation.into());
    }
}

fn wanted_differs(before: &Value, after: &Value) -> bool {
    let wanted = |value: &Value| -> Map<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        let fields =
            fields.filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "apiVersion" | "kind"));
        fields.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    wanted(before) != wanted(after)
}
