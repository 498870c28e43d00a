//! Ports of nodes that Services of type NodePort and LoadBalancer get.

use std::collections::BTreeSet;

use serde_json::Value;

use super::allocations::{NODE_PORTS, Refusal, Reservation};
use super::service::kind;
use crate::status::Cause;

/// Whether Services of this type are reached on every node.
fn has_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// Whether load balancers ask each node of a Service whether it has endpoints.
pub fn has_health_check(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
}

/// An update that says nothing about node ports keeps them.
pub fn carry_over(before: &Value, service: &mut Value) {
    if has_node_ports(service) && has_node_ports(before) {
        keep_node_ports(before, service);
    }
    let health_check = &before["spec"]["healthCheckNodePort"];
    if has_health_check(service) && service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 && !health_check.is_null() {
        service["spec"]["healthCheckNodePort"] = health_check.clone();
    }
}

/// Ports that were there before, by port and protocol, keep their node port.
fn keep_node_ports(before: &Value, service: &mut Value) {
    let same = |a: &Value, b: &Value| a["port"] == b["port"] && a["protocol"] == b["protocol"];
    let old = before["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].as_u64().unwrap_or(0) == 0
            && let Some(old) = old.iter().find(|o| same(o, port) && !o["nodePort"].is_null())
        {
            port["nodePort"] = old["nodePort"].clone();
        }
    }
}

/// A Service that ceases to have node ports loses those that it was given.
pub fn drop_leftovers(before: &Value, service: &mut Value) {
    if has_node_ports(service) || !has_node_ports(before) {
        return;
    }
    let given: BTreeSet<u64> = before["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| p["nodePort"].as_u64())
        .collect();
    // This is before validation.
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        if port.get("nodePort").and_then(Value::as_u64).is_some_and(|p| given.contains(&p)) {
            port.remove("nodePort");
        }
    }
}

/// Claims the ports asked for and gives those that are missing.
pub fn allocate(service: &mut Value, reservation: &mut Reservation<'_>) -> Result<(), Vec<Cause>> {
    let wanted = has_node_ports(service);
    let explicit_allowed = wanted || kind(service) == "LoadBalancer";
    let mut causes = Vec::new();
    let mut ports = service["spec"]["ports"].as_array_mut().map(std::mem::take).unwrap_or_default();
    // Those who ask for a port go first, so that nobody else is given it.
    for asking in [true, false] {
        for (i, port) in ports.iter_mut().enumerate() {
            let asked = port["nodePort"].as_u64().unwrap_or(0);
            let field = format!("spec.ports[{i}].nodePort");
            if (asked != 0) != asking {
                continue;
            }
            if asked != 0 && !explicit_allowed {
                let why = "may not be used when `type` is 'ClusterIP'";
                causes.push(Cause::forbidden(field, why));
            } else if asked != 0 {
                let asked = u16::try_from(asked).unwrap_or(0);
                causes.extend(reservation.port(asked).err().map(|r| refused(field, asked, &r)));
            } else if wanted {
                match reservation.any_port() {
                    Ok(given) => port["nodePort"] = given.into(),
                    Err(_) => causes.push(Cause::invalid(
                        field,
                        &0.into(),
                        "failed to allocate a nodePort: range is full",
                    )),
                }
            }
        }
    }
    if !ports.is_empty() {
        service["spec"]["ports"] = ports.into();
    }
    if has_health_check(service) {
        causes.extend(health_check(service, reservation).err());
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

/// The port at which each node says whether it has endpoints of the Service: the one asked for, or any.
fn health_check(service: &mut Value, reservation: &mut Reservation<'_>) -> Result<(), Cause> {
    const FIELD: &str = "spec.healthCheckNodePort";
    let asked = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
    if asked != 0 {
        let asked = u16::try_from(asked).unwrap_or(0);
        return reservation.port(asked).map_err(|refusal| refused(FIELD.into(), asked, &refusal));
    }
    let why = "failed to allocate a healthCheckNodePort: range is full";
    service["spec"]["healthCheckNodePort"] =
        reservation.any_port().map_err(|_| Cause::invalid(FIELD, &0.into(), why))?.into();
    Ok(())
}

fn refused(field: String, port: u16, refusal: &Refusal) -> Cause {
    let why = match refusal {
        Refusal::OutOfRange => format!(
            "provided port is not in the valid range. The range of valid ports is {}-{}",
            NODE_PORTS.start(),
            NODE_PORTS.end()
        ),
        _ => "provided port is already allocated".to_owned(),
    };
    Cause::invalid(field, &port.into(), &why)
}
