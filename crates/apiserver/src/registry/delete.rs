use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Registry, key_target, refused};
use crate::meta;
use crate::request::{DeleteOptions, Propagation, Target};
use crate::resources::Resource;
use crate::status::Status;
use crate::store::{Object, WriteError};

/// The finalizer of an owner whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents stay.
pub const ORPHAN: &str = "orphan";
/// Namespaces that a cluster cannot be without.
const LASTING: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What a deletion did.
#[derive(Debug)]
pub struct Deletion {
    /// The last state of the object, or its state now.
    pub object: Arc<Object>,
    /// Whether it is gone; else it goes when its finalizers or its kubelet let it.
    pub gone: bool,
}

impl Registry {
    /// Deletes all objects of a resource, in one namespace or everywhere. Returns how many are there
    /// still: those that a finalizer holds, or that need their time to end.
    ///
    /// # Errors
    /// What refuses the deletion of one of them; one that has gone meanwhile is no error.
    pub fn delete_all(&self, resource: &'static Resource, namespace: Option<&str>) -> Result<usize, Status> {
        let mut left = 0;
        for object in self.store.list(resource, namespace).1 {
            left += 1;
            if object.deleting {
                continue;
            }
            let options = DeleteOptions {
                dry_run: false,
                grace: None,
                propagation: Some(Propagation::Background),
                uid: Some(&object.uid),
                revision: None,
            };
            match self.delete(&key_target(resource, &object.key), &options) {
                Ok(deletion) if deletion.gone => left -= 1,
                Err(status) if status.reason != "NotFound" => return Err(status),
                _ => {}
            }
        }
        Ok(left)
    }

    /// Deletes an object, or begins to.
    ///
    /// # Errors
    /// 403, 404, or 409 where a precondition fails.
    pub fn delete(&self, target: &Target, options: &DeleteOptions<'_>) -> Result<Deletion, Status> {
        let (resource, name) = (target.resource, target.name.as_deref().unwrap_or_default());
        if resource.kind.kind == "Namespace" && LASTING.contains(&name) {
            return Err(Status::forbidden(resource, name, "this namespace may not be deleted"));
        }
        loop {
            let object = self.get(target)?;
            check_preconditions(target, &object, options)?;
            let mut value = object.value();
            let gone = !mark(resource, &mut value, options);
            if options.dry_run {
                return Ok(Deletion { object: Arc::new(Object::unsaved(resource, value)), gone });
            }
            let written = match gone {
                true => self.remove(resource, &object),
                false if value == object.value() => return Ok(Deletion { object, gone }),
                false => self.store.update(resource, object.revision, value),
            };
            match written {
                Ok(object) => return Ok(Deletion { object, gone }),
                Err(WriteError::Changed(_)) => {}
                Err(error) => return Err(refused(target, name, &error)),
            }
        }
    }
}

fn check_preconditions(target: &Target, object: &Object, options: &DeleteOptions<'_>) -> Result<(), Status> {
    let revision = object.revision.to_string();
    for (what, asked, found) in
        [("UID", options.uid, &*object.uid), ("ResourceVersion", options.revision, revision.as_str())]
    {
        if let Some(asked) = asked.filter(|a| *a != found) {
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({found}). \
                 The object might have been deleted and then recreated"
            );
            return Err(Status::conflict(target.resource, &object.key.name, &why));
        }
    }
    Ok(())
}

/// Writes into an object that it is being deleted; `false` when nothing holds it, so that it can go
/// at once.
fn mark(resource: &Resource, value: &mut Value, options: &DeleteOptions<'_>) -> bool {
    propagate(value, options.propagation);
    let grace = grace(resource, value, options.grace);
    let held = meta::finalizers(value).next().is_some() || resource.kind.kind == "Namespace" || grace > 0;
    if !held {
        return false;
    }
    let already = meta::deleting(value);
    let before = value["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if !already || before.is_some_and(|b| grace < b) {
        let when = Timestamp::now() + SignedDuration::from_secs(grace);
        let metadata = meta::metadata(value);
        metadata.insert("deletionTimestamp".into(), meta::time(when).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        if !already && let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation".into(), (generation + 1).into());
        }
    }
    if resource.kind.kind == "Namespace" {
        meta::metadata(value).remove("deletionGracePeriodSeconds");
        value["status"]["phase"] = "Terminating".into();
    }
    true
}

/// The dependents' fate is written into the finalizers, where the garbage collector finds it.
fn propagate(value: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let others = meta::finalizers(value).filter(|f| *f != FOREGROUND && *f != ORPHAN);
    let finalizers: Vec<&str> = others.chain(wanted).collect();
    let finalizers = json!(finalizers);
    if finalizers.as_array().is_some_and(Vec::is_empty) {
        meta::metadata(value).remove("finalizers");
    } else {
        meta::metadata(value).insert("finalizers".into(), finalizers);
    }
}

/// How long a pod may take to shut down. Only one that a kubelet has may take any time.
fn grace(resource: &Resource, value: &Value, asked: Option<i64>) -> i64 {
    if resource.kind.kind != "Pod" {
        return 0;
    }
    let unscheduled = value["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let finished = matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || finished {
        return 0;
    }
    let own = value["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    // A negative period counts as one second (pod strategy `CheckGracefulDelete`).
    let asked = asked.unwrap_or(own);
    let asked = if asked < 0 { 1 } else { asked };
    match value["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        Some(running) if meta::deleting(value) => asked.min(running),
        _ => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(grace: Option<i64>, propagation: Option<Propagation>) -> DeleteOptions<'static> {
        DeleteOptions { dry_run: false, grace, propagation, uid: None, revision: None }
    }

    fn pod(spec: Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "x"}, "spec": spec, "status": {"phase": "Running"}})
    }

    #[test]
    fn a_pod_on_a_node_shuts_down_and_others_go_at_once() {
        let pods = Resource::core("pods");
        assert!(!mark(pods, &mut pod(json!({})), &options(None, None)));
        let mut placed = pod(json!({"nodeName": "node-1", "terminationGracePeriodSeconds": 5}));
        assert!(mark(pods, &mut placed, &options(None, None)));
        assert_eq!(placed["metadata"]["deletionGracePeriodSeconds"], 5);
        let first = placed.clone();
        assert!(mark(pods, &mut placed, &options(Some(60), None)));
        assert_eq!(placed, first, "a longer period changes nothing");
        assert!(mark(pods, &mut placed, &options(Some(1), None)));
        assert_eq!(placed["metadata"]["deletionGracePeriodSeconds"], 1);
        assert!(!mark(pods, &mut placed, &options(Some(0), None)), "the kubelet is done");
    }

    #[test]
    fn the_policy_becomes_a_finalizer() {
        let deployments = Resource::find("apps", "v1", "deployments").expect("served");
        let mut value = json!({"metadata": {"name": "x", "generation": 2}});
        assert!(!mark(deployments, &mut value, &options(None, Some(Propagation::Background))));
        assert!(mark(deployments, &mut value, &options(None, Some(Propagation::Foreground))));
        assert_eq!(value["metadata"]["finalizers"], json!([FOREGROUND]));
        assert_eq!(value["metadata"]["generation"], 3);
        assert!(mark(deployments, &mut value, &options(None, Some(Propagation::Orphan))));
        assert_eq!(value["metadata"]["finalizers"], json!([ORPHAN]));
    }
}
