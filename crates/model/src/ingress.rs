use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{NamespacedName, Origin};

/// `networking.k8s.io/v1` Ingress, as far as it says which Services it exposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// Namespace and name.
    pub name: NamespacedName,
    /// The ports of Services, in its namespace, that requests are sent to.
    pub backends: Vec<IngressBackend>,
    /// Where it was declared.
    pub origin: Origin,
}

/// A Service that an Ingress sends requests to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IngressBackend {
    /// The Service's name.
    pub service: Arc<str>,
    /// Which of its ports; `None`: any (the API refuses that, but some manifests have it).
    pub port: Option<ServicePortRef>,
}

/// Which port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServicePortRef {
    /// The one of this number.
    Number(u16),
    /// The one of this name.
    Name(Arc<str>),
}
