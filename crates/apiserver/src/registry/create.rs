use std::sync::Arc;

use serde_json::{Value, json};

use super::{Author, Intent, Registry, refused};
use crate::admission;
use crate::custom;
use crate::meta;
use crate::request::Target;
use crate::resources::Resource;
use crate::status::Status;
use crate::store::{Object, WriteError};

/// How often a generated name is tried before the collision is the client's problem.
const GENERATED_NAMES: usize = 8;

impl Registry {
    /// Stores a new object, given in its stored form; a dry run only says what would be stored.
    ///
    /// # Errors
    /// 400, 403, 404 (namespace), 409 or 422.
    pub fn create(&self, target: &Target, mut value: Value, intent: &Intent) -> Result<Arc<Object>, Status> {
        let resource = target.resource;
        if resource.custom.as_ref().is_some_and(|custom| custom.now().terminating) {
            return Err(Status::method_not_allowed());
        }
        meta::set_namespace(target, &mut value)?;
        meta::begin(resource, &mut value)?;
        if intent.author != Author::Recorded {
            meta::metadata(&mut value).remove("managedFields");
        }
        let generated = meta::is_generated(&value);
        for attempt in 1.. {
            let mut value = value.clone();
            if generated {
                meta::generate_name(&mut value);
            }
            meta::check_name(resource, &value)?;
            match self.create_named(target, value, intent) {
                Err(status) if generated && status.reason == "AlreadyExists" && attempt < GENERATED_NAMES => {
                }
                other => return other,
            }
        }
        unreachable!("the loop above has no end but return")
    }

    fn create_named(
        &self,
        target: &Target,
        mut value: Value,
        intent: &Intent,
    ) -> Result<Arc<Object>, Status> {
        let resource = target.resource;
        admission::prepare_create(resource, &mut value);
        Self::default(resource, &mut value);
        Self::check_validity(resource, &value)?;
        if resource.stored_as == custom::DEFINITIONS {
            custom::accept(self.store.catalogue(), resource, &Value::Null, &mut value)?;
        }
        let name = meta::text(&value, "name").to_owned();
        let key = super::NamespacedName::new(target.namespace(), name.as_str());
        // Before addresses are taken, so that the message is about the name.
        if self.store.get(resource, &key).is_some() {
            return Err(Status::already_exists(resource, &name));
        }
        record_new(target, intent, &mut value);
        let reservation = match is_service(resource) {
            true => Some(
                self.services
                    .admit(&Value::Null, &mut value)
                    .map_err(|c| Status::invalid(resource, &name, c))?,
            ),
            false => None,
        };
        if intent.dry_run {
            self.store
                .check_namespace(resource, target.namespace())
                .map_err(|e| refused(target, &name, &e))?;
            return Ok(Arc::new(Object::unsaved(resource, value)));
        }
        let object =
            self.store.create(resource, value).map_err(|e: WriteError| refused(target, &name, &e))?;
        if let Some(reservation) = reservation {
            reservation.commit();
        }
        if resource.kind.kind == "Namespace" {
            self.create_default_account(&name);
        }
        Ok(object)
    }

    /// Every namespace has a ServiceAccount that its pods run as.
    fn create_default_account(&self, namespace: &str) {
        let target = Target {
            resource: Resource::core("serviceaccounts"),
            namespace: Some(namespace.to_owned()),
            name: None,
            subresource: None,
        };
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        if let Err(status) = self.create(&target, account, &Intent::SERVER) {
            tracing::warn!(namespace, %status, "the default ServiceAccount could not be made");
        }
    }
}

/// The status that a new object begins with is the server's, not its creator's.
fn record_new(target: &Target, intent: &Intent, value: &mut Value) {
    let status = match target.resource.kind.status && target.resource.kind.kind != "Node" {
        true => value.as_object_mut().and_then(|v| v.remove("status")),
        false => None,
    };
    intent.record(target, None, value);
    if let Some(status) = status {
        value["status"] = status;
    }
}

/// Whether objects of a resource need addresses.
pub(super) fn is_service(resource: &Resource) -> bool {
    resource.kind.group.is_empty() && resource.kind.kind == "Service"
}
