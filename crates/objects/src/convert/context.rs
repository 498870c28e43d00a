use std::fmt::Display;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kilter_model::NamespacedName;

use crate::Error;

/// Which object is being converted, so that an error can name it.
pub(crate) struct Context {
    kind: &'static str,
    pub name: NamespacedName,
}

impl Context {
    pub fn new(kind: &'static str, metadata: &ObjectMeta) -> Self {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        Self { kind, name: NamespacedName::new(namespace, name) }
    }

    /// As [`Context::new`], for a namespaced kind: no namespace means `default`.
    pub fn namespaced(kind: &'static str, metadata: &ObjectMeta) -> Self {
        let mut context = Self::new(kind, metadata);
        if context.name.namespace.is_empty() {
            context.name.namespace = "default".into();
        }
        context
    }

    pub fn error(&self, field: impl Into<String>, message: impl Display) -> Error {
        Error {
            kind: self.kind.into(),
            name: self.name.to_string(),
            field: field.into(),
            message: message.to_string(),
        }
    }

    /// A port number, 1 to 65535.
    pub fn port(&self, field: &str, number: i32) -> Result<u16, Error> {
        match u16::try_from(number) {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(self.error(field, format!("{number} is not a port: 1 to 65535"))),
        }
    }

    /// A protocol name; TCP when absent (core/v1 `ServicePort`, `ContainerPort`, networking/v1
    /// `NetworkPolicyPort`).
    pub fn protocol(&self, field: &str, name: Option<&str>) -> Result<kilter_model::Protocol, Error> {
        let Some(name) = name.filter(|n| !n.is_empty()) else { return Ok(kilter_model::Protocol::Tcp) };
        name.parse().map_err(|()| self.error(field, format!("{name:?} is not a protocol: TCP, UDP or SCTP")))
    }
}
