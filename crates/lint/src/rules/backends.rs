//! KLT012: what an Ingress or a route of Gateway API leads to.

use kilter_manifests::Object;
use kilter_model::NamespacedName;
use serde_json::Value;

use crate::Finding;
use crate::context::{Context, name, title};
use crate::finding::BACKEND_MISSING;

/// The kinds of Gateway API whose rules name backends.
const ROUTES: [&str; 5] = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"];

pub fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut found = vec![];
    for object in context.of_kind("Ingress") {
        for pointer in ingress_backends(&object.value) {
            let backend = object.value.pointer(&pointer).unwrap_or(&Value::Null);
            let service = backend.pointer("/name").and_then(Value::as_str).unwrap_or_default();
            let port = backend.pointer("/port/number").or(backend.pointer("/port/name"));
            let service = NamespacedName::new(name(&object.value).namespace, service);
            found.extend(judge(context, object, &pointer, &service, port));
        }
    }
    for object in ROUTES.into_iter().flat_map(|kind| context.of_kind(kind)) {
        for pointer in route_backends(&object.value) {
            let backend = object.value.pointer(&pointer).unwrap_or(&Value::Null);
            let text = |key: &str| backend.get(key).and_then(Value::as_str);
            if text("kind").is_some_and(|it| it != "Service")
                || text("group").is_some_and(|it| !it.is_empty())
            {
                continue;
            }
            let namespace = text("namespace").map_or(name(&object.value).namespace, Into::into);
            let service = NamespacedName::new(namespace, text("name").unwrap_or_default());
            found.extend(judge(context, object, &pointer, &service, backend.get("port")));
        }
    }
    found
}

/// JSON pointers of the `service` of each backend (networking/v1).
fn ingress_backends(object: &Value) -> Vec<String> {
    let mut found = vec!["/spec/defaultBackend/service".to_owned()];
    for (i, rule) in list(object.pointer("/spec/rules")).iter().enumerate() {
        for j in 0..list(rule.pointer("/http/paths")).len() {
            found.push(format!("/spec/rules/{i}/http/paths/{j}/backend/service"));
        }
    }
    found.retain(|it| object.pointer(it).is_some_and(Value::is_object));
    found
}

fn route_backends(object: &Value) -> Vec<String> {
    let rules = list(object.pointer("/spec/rules")).iter().enumerate();
    let each = |(i, rule): (usize, &Value)| {
        (0..list(rule.get("backendRefs")).len()).map(move |j| format!("/spec/rules/{i}/backendRefs/{j}"))
    };
    rules.flat_map(each).collect()
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn judge(
    context: &Context<'_>,
    object: &Object,
    pointer: &str,
    service: &NamespacedName,
    port: Option<&Value>,
) -> Option<Finding> {
    let missing = match context.cluster.service(service) {
        // A namespace without any Service among the sources proves nothing.
        None if context.cluster.services().all(|it| it.name.namespace != service.namespace) => return None,
        None => format!("Service {service}, which is not there"),
        Some(found) => {
            let has = |wanted: &Value| match wanted {
                Value::Number(number) => {
                    found.ports.iter().any(|it| Some(u64::from(it.port)) == number.as_u64())
                }
                Value::String(name) => found.ports.iter().any(|it| *it.name == **name),
                _ => true,
            };
            let port = port.filter(|it| !has(it))?;
            let ports: Vec<String> = found.ports.iter().map(|it| it.port.to_string()).collect();
            format!("port {port} of Service {service}, which has {}", ports.join(", "))
        }
    };
    let message = format!("{} leads to {missing}", title(&object.value));
    Some(Finding::new(&BACKEND_MISSING, context.at(object, pointer), &title(&object.value), message))
}
