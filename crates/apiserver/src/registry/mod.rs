//! Typed operations on objects, as the API has them: what HTTP handlers, the garbage collector and
//! the namespace controller call.

mod author;
mod create;
mod delete;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
mod update;

use std::sync::Arc;

use kilter_model::NamespacedName;
use serde_json::Value;

use crate::admission::Services;
use crate::request::Target;
use crate::resources::Resource;
use crate::status::{Cause, Status};
use crate::store::{Object, Store, WriteError};

pub use author::{Author, Intent};
pub use delete::{Deletion, FOREGROUND, ORPHAN};
pub use update::Part;

/// The objects of the cluster and the rules for changing them.
#[derive(Debug)]
pub struct Registry {
    /// Where they are kept.
    pub store: Arc<Store>,
    services: Services,
}

/// Where an object is.
pub(crate) fn key(target: &Target) -> NamespacedName {
    NamespacedName::new(target.namespace(), target.name.as_deref().unwrap_or_default())
}

/// A target for an object that is named by its key.
pub(crate) fn key_target(resource: &'static Resource, key: &NamespacedName) -> Target {
    let namespace = resource.kind.namespaced.then(|| key.namespace.to_string());
    Target { resource, namespace, name: Some(key.name.to_string()), subresource: None }
}

impl Registry {
    /// Rules over a store.
    pub fn new(store: Arc<Store>, services: Services) -> Self {
        Self { store, services }
    }

    /// Takes note of the addresses that Services have already.
    pub fn adopt_services(&self) {
        for service in self.store.list(Resource::core("services"), None).1 {
            match self.services.admit(&Value::Null, &mut service.value()) {
                Ok(reservation) => reservation.commit(),
                Err(causes) => tracing::warn!(service = %service.key, ?causes, "its addresses are not its own"),
            }
        }
    }

    /// One object.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, target: &Target) -> Result<Arc<Object>, Status> {
        let name = target.name.as_deref().unwrap_or_default();
        self.store.get(target.resource, &key(target)).ok_or_else(|| Status::not_found(target.resource, name))
    }

    /// Fills in what the kind's defaults are.
    fn default(resource: &Resource, value: &mut Value) {
        match &resource.custom {
            Some(custom) => custom.now().structural.default(value),
            None => kilter_objects::default(value),
        }
    }

    fn check_validity(resource: &Resource, value: &Value) -> Result<(), Status> {
        let errors = match &resource.custom {
            Some(custom) => custom.now().structural.validate(value),
            None => kilter_objects::validate(value),
        };
        if errors.is_empty() {
            return Ok(());
        }
        let name = crate::meta::text(value, "name");
        Err(Status::invalid(resource, name, errors.into_iter().map(Cause::from).collect()))
    }
}

/// Why the store refused, as the client sees it.
fn refused(target: &Target, name: &str, error: &WriteError) -> Status {
    let resource = target.resource;
    match error {
        WriteError::Exists(_) => Status::already_exists(resource, name),
        WriteError::Missing => Status::not_found(resource, name),
        WriteError::Changed(_) => Status::modified(resource, name),
        WriteError::Journal(why) => {
            tracing::error!(%why, "the journal cannot be written");
            Status::internal(format!("the write was refused, for it cannot be kept: {why}"))
        }
        WriteError::NoNamespace => Status::not_found(Resource::core("namespaces"), target.namespace()),
        WriteError::NamespaceTerminating => {
            let namespace = target.namespace();
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            Status::forbidden(resource, name, &why)
                .with_cause("NamespaceTerminating", &format!("namespace {namespace} is being terminated"))
        }
    }
}
