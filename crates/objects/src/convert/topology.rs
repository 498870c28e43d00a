use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kilter_model::{Namespace, Node, Origin};

use super::{Context, labels, parse_cidr};
use crate::Error;

/// The label that every namespace carries (set by the API server, so by us where there is none).
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A namespace; `kubernetes.io/metadata.name` is added where it is missing.
pub fn namespace(object: &core::Namespace, origin: Origin) -> Namespace {
    let name: Arc<str> = object.metadata.name.as_deref().unwrap_or_default().into();
    let mut labels = labels(object.metadata.labels.as_ref());
    labels.insert(NAME_LABEL.into(), name.clone());
    Namespace { name, labels, origin }
}

/// A node.
///
/// # Errors
/// A pod CIDR that is none.
pub fn node(object: &core::Node, origin: Origin) -> Result<Node, Error> {
    let context = Context::new("Node", &object.metadata);
    let spec = object.spec.clone().unwrap_or_default();
    let cidrs = match spec.pod_cidrs.filter(|c| !c.is_empty()) {
        Some(cidrs) => cidrs,
        None => spec.pod_cidr.filter(|c| !c.is_empty()).into_iter().collect(),
    };
    let pod_cidrs = cidrs
        .iter()
        .map(|c| parse_cidr(c).ok_or_else(|| context.error("spec.podCIDRs", format!("{c:?} is not a CIDR"))))
        .collect::<Result<_, _>>()?;
    let status = object.status.clone().unwrap_or_default();
    Ok(Node {
        name: context.name.name.clone(),
        labels: labels(object.metadata.labels.as_ref()),
        addresses: addresses(&status.addresses.unwrap_or_default()),
        pod_cidrs,
        ready: status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"),
        origin,
    })
}

/// The addresses that are IP addresses, internal ones first, in the order given otherwise.
fn addresses(addresses: &[core::NodeAddress]) -> Vec<IpAddr> {
    let of = |internal: bool| {
        addresses
            .iter()
            .filter(move |a| (a.type_ == "InternalIP") == internal)
            .filter_map(|a| a.address.parse().ok())
    };
    of(true).chain(of(false)).collect()
}
