use std::sync::Arc;

use serde_json::Value;

use super::create::is_service;
use super::{Intent, Registry, key, refused};
use crate::admission;
use crate::custom;
use crate::meta;
use crate::request::Target;
use crate::resources::Resource;
use crate::status::{Cause, Status};
use crate::store::{Object, WriteError};

/// How often a write that nobody conditioned is tried anew when others write in between.
const ATTEMPTS: usize = 16;

/// Which half of an object a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status, labels and annotations.
    Status,
    /// Anything: this server's own writes.
    Whole,
}

impl Registry {
    /// Changes an object: `change` makes the new state from the present one, in stored form, and is
    /// called again when another write came in between. A new state that carries a
    /// resourceVersion other than the present one is refused.
    ///
    /// # Errors
    /// 404, 409, 422, and what `change` answers.
    pub fn modify(
        &self,
        target: &Target,
        part: Part,
        intent: &Intent,
        change: &mut dyn FnMut(Value) -> Result<Value, Status>,
    ) -> Result<Arc<Object>, Status> {
        let name = target.name.as_deref().unwrap_or_default();
        for _ in 0..ATTEMPTS {
            let object = self.get(target)?;
            let before = object.value();
            let after = change(before.clone())?;
            match self.modify_once(target, part, intent, &object, &before, after) {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                Err(status) => return Err(status),
            }
        }
        Err(Status::conflict(target.resource, name, "too many other writes came in between; try again"))
    }

    /// `None` when another write came in between.
    fn modify_once(
        &self,
        target: &Target,
        part: Part,
        intent: &Intent,
        object: &Arc<Object>,
        before: &Value,
        mut after: Value,
    ) -> Result<Option<Arc<Object>>, Status> {
        let (resource, name) = (target.resource, target.name.as_deref().unwrap_or_default());
        check_identity(target, before, &after)?;
        meta::set_namespace(target, &mut after)?;
        meta::carry_over(resource, before, &mut after)?;
        match part {
            Part::Main => admission::prepare_update(resource, before, &mut after),
            Part::Status => admission::prepare_status(before, &mut after),
            Part::Whole => {}
        }
        Self::default(resource, &mut after);
        Self::check_validity(resource, &after)?;
        if resource.stored_as == custom::DEFINITIONS && part != Part::Whole {
            custom::accept(self.store.catalogue(), resource, before, &mut after)?;
        }
        if part == Part::Main {
            let changed = kilter_objects::changed(before, &after);
            if !changed.is_empty() {
                let causes = changed.into_iter().map(Cause::from).collect();
                return Err(Status::invalid(resource, name, causes));
            }
        }
        intent.record(target, Some(before), &mut after);
        let reservation = match is_service(resource) && part == Part::Main {
            true => Some(
                self.services.admit(before, &mut after).map_err(|c| Status::invalid(resource, name, c))?,
            ),
            false => None,
        };
        meta::bump_generation(resource, before, &mut after);
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        let done = released(&after);
        if after == *before && !done {
            return Ok(Some(object.clone()));
        }
        if intent.dry_run {
            return Ok(Some(Arc::new(Object::unsaved(resource, after))));
        }
        let written = match done {
            // The last finalizer of a deleted object is gone, and the object with it.
            true => self.remove(resource, object),
            false => self.store.update(resource, object.revision, after),
        };
        match written {
            Ok(written) => {
                if let Some(reservation) = reservation.filter(|_| !done) {
                    reservation.commit();
                }
                Ok(Some(written))
            }
            Err(WriteError::Changed(_)) => Ok(None),
            Err(error) => Err(refused(target, name, &error)),
        }
    }

    /// Takes an object out of the store, with what belongs to it alone.
    pub(super) fn remove(&self, resource: &Resource, object: &Object) -> Result<Arc<Object>, WriteError> {
        let last = self.store.delete(resource, &object.key, object.revision)?;
        if is_service(resource) {
            self.services.release(&last.value());
        }
        Ok(last)
    }

    /// Replaces an object with what a client sent.
    ///
    /// # Errors
    /// 400, 404, 409 or 422.
    pub fn replace(
        &self,
        target: &Target,
        part: Part,
        value: Value,
        intent: &Intent,
    ) -> Result<Arc<Object>, Status> {
        let resource = target.resource;
        if meta::text(&value, "resourceVersion").is_empty() && !resource.unconditional_update {
            let name = target.name.as_deref().unwrap_or_default();
            let cause =
                Cause::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
            return Err(Status::invalid(resource, name, vec![cause]));
        }
        self.modify(target, part, intent, &mut |_| Ok(value.clone()))
    }
}

/// Name, UID and revision of a write must be those of the object.
fn check_identity(target: &Target, before: &Value, after: &Value) -> Result<(), Status> {
    let name = key(target).name;
    let given = meta::text(after, "name");
    if !given.is_empty() && *given != *name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    if given.is_empty() {
        return Err(Status::bad_request("the name of the object must be given in metadata.name"));
    }
    let (old, new) = (meta::text(before, "uid"), meta::text(after, "uid"));
    if !new.is_empty() && new != old {
        let why = format!("Precondition failed: UID in precondition: {new}, UID in object meta: {old}");
        return Err(Status::conflict(target.resource, &name, &why));
    }
    let asked = meta::text(after, "resourceVersion");
    if !matches!(asked, "" | "0") && asked != meta::text(before, "resourceVersion") {
        return Err(Status::modified(target.resource, &name));
    }
    Ok(())
}

/// Whether nothing holds a deleted object any more: no finalizer, and no time to shut down in.
fn released(value: &Value) -> bool {
    let grace = value["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let namespace =
        value["kind"] == "Namespace" && value["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    meta::deleting(value) && grace == 0 && meta::finalizers(value).next().is_none() && !namespace
}
