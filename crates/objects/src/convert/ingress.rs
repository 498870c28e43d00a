use k8s_openapi::api::networking::v1 as net;
use kilter_model::{Ingress, IngressBackend, Origin, ServicePortRef};

use super::Context;
use crate::Error;

/// An Ingress: the Services behind its rules and its default. Backends that are no Services
/// (`resource`) are left out.
///
/// # Errors
/// A port that is none.
pub fn ingress(object: &net::Ingress, origin: Origin) -> Result<Ingress, Error> {
    let context = Context::namespaced("Ingress", &object.metadata);
    let spec = object.spec.clone().unwrap_or_default();
    let default = spec.default_backend.iter().map(|it| ("spec.defaultBackend".to_owned(), it));
    let by_path = spec.rules.iter().flatten().enumerate().flat_map(|(i, rule)| {
        let paths = rule.http.iter().flat_map(|http| &http.paths).enumerate();
        paths.map(move |(j, path)| (format!("spec.rules[{i}].http.paths[{j}].backend"), &path.backend))
    });
    let mut backends = Vec::new();
    for (path, backend) in default.chain(by_path) {
        let Some(service) = &backend.service else { continue };
        let port = match &service.port {
            Some(net::ServiceBackendPort { name: Some(name), .. }) if !name.is_empty() => {
                Some(ServicePortRef::Name(name.as_str().into()))
            }
            Some(net::ServiceBackendPort { number: Some(number), .. }) => {
                let number = context.port(&format!("{path}.service.port.number"), *number)?;
                Some(ServicePortRef::Number(number))
            }
            _ => None,
        };
        backends.push(IngressBackend { service: service.name.as_str().into(), port });
    }
    Ok(Ingress { name: context.name, backends, origin })
}
