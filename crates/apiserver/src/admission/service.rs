//! Cluster IPs and node ports.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::allocations::{Allocations, Claims, NODE_PORTS, Refusal, Reservation};
use crate::status::Cause;

/// Gives Services their addresses.
#[derive(Debug)]
pub struct Services {
    allocations: Allocations,
}

impl Services {
    /// Addresses from this range.
    pub fn new(cidr: Ipv4Net) -> Self {
        Self { allocations: Allocations::new(cidr) }
    }

    /// A Service is gone; its last state.
    pub fn release(&self, service: &Value) {
        self.allocations.release(&claims(service));
    }

    /// Fills in and checks the addresses and node ports of a Service that is about to be stored;
    /// `before` is null for a new one.
    ///
    /// # Errors
    /// What is taken, out of range, or may not change.
    pub fn admit(&self, before: &Value, service: &mut Value) -> Result<Reservation<'_>, Vec<Cause>> {
        carry_over(before, service)?;
        families(service)?;
        let mut reservation = self.allocations.reserve(claims(before));
        self.address(service, &mut reservation).map_err(|c| vec![c])?;
        ports(service, &mut reservation)?;
        Ok(reservation)
    }

    fn address(&self, service: &mut Value, reservation: &mut Reservation<'_>) -> Result<(), Cause> {
        let spec = &mut service["spec"];
        let kind = spec["type"].as_str().unwrap_or("ClusterIP").to_owned();
        let asked = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        if kind == "ExternalName" {
            return match asked.is_empty() || asked == "None" {
                true => Ok(()),
                false => Err(Cause::forbidden(
                    "spec.clusterIPs[0]",
                    "may not be set when `type` is 'ExternalName'",
                )),
            };
        }
        if asked == "None" {
            if kind != "ClusterIP" {
                let why = format!("may not be set to 'None' for {kind} services");
                return Err(Cause::invalid("spec.clusterIPs[0]", &"None".into(), &why));
            }
            spec["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let given = match asked.as_str() {
            "" => reservation.any_address().map_err(|_| {
                let why = "failed to allocate a serviceIP: range is full";
                Cause::invalid("spec.clusterIPs", &json!([]), why)
            })?,
            text => {
                let address: Ipv4Addr = text.parse().map_err(|_| {
                    Cause::invalid("spec.clusterIPs[0]", &text.into(), "must be a valid IPv4 address")
                })?;
                self.claim(address, reservation)?;
                address
            }
        };
        spec["clusterIP"] = given.to_string().into();
        spec["clusterIPs"] = json!([given.to_string()]);
        Ok(())
    }

    fn claim(&self, address: Ipv4Addr, reservation: &mut Reservation<'_>) -> Result<(), Cause> {
        let asked = json!([address.to_string()]);
        reservation.address(address).map_err(|refusal| {
            let why = match refusal {
                Refusal::OutOfRange => format!(
                    "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. \
                     The range of valid IPs is {}",
                    self.allocations.cidr()
                ),
                _ => format!("failed to allocate IP {address}: provided IP is already allocated"),
            };
            Cause::invalid("spec.clusterIPs", &asked, &why)
        })
    }
}

/// What a stored Service holds.
fn claims(service: &Value) -> Claims {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|p| p["nodePort"].as_u64());
    Claims {
        address: spec["clusterIP"].as_str().and_then(|a| a.parse().ok()),
        ports: ports.filter_map(|p| u16::try_from(p).ok()).filter(|p| *p != 0).collect(),
    }
}

fn kind(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

/// Whether Services of this type are reached on every node.
fn has_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// An update that says nothing about addresses and node ports keeps them; one that says something
/// else is refused, unless the type changes.
fn carry_over(before: &Value, service: &mut Value) -> Result<(), Vec<Cause>> {
    let given =
        |service: &Value| service["spec"]["clusterIP"].as_str().filter(|a| !a.is_empty()).map(str::to_owned);
    let first = service["spec"]["clusterIPs"][0].as_str().map(str::to_owned);
    match (given(service), &first) {
        (None, Some(first)) => service["spec"]["clusterIP"] = first.as_str().into(),
        (Some(one), Some(first)) if one != *first && before.is_null() => {
            let why = "first value of clusterIPs must match clusterIP";
            return Err(vec![Cause::invalid("spec.clusterIPs", &service["spec"]["clusterIPs"], why)]);
        }
        _ => {}
    }
    if before.is_null() {
        return Ok(());
    }
    let leaving = |v: &Value| kind(v) == "ExternalName";
    let old = given(before).filter(|_| !leaving(before));
    match (leaving(service), old, given(service)) {
        (true, old, new) => {
            if new.is_some() && new == old {
                clear_addresses(service);
            }
        }
        (false, Some(old), None) => service["spec"]["clusterIP"] = old.into(),
        (false, Some(old), Some(new)) if old != new => {
            return Err(vec![Cause::invalid("spec.clusterIPs[0]", &json!([new]), "may not change once set")]);
        }
        _ => {}
    }
    if has_node_ports(service) && has_node_ports(before) {
        keep_node_ports(before, service);
    } else if !has_node_ports(service) && has_node_ports(before) {
        drop_node_ports(before, service);
    }
    Ok(())
}

fn clear_addresses(service: &mut Value) {
    if let Some(spec) = service["spec"].as_object_mut() {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(field);
        }
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

/// A Service that ceases to be of type NodePort loses the ports that it was given.
fn drop_node_ports(before: &Value, service: &mut Value) {
    let given: BTreeSet<u64> = before["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| p["nodePort"].as_u64())
        .collect();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
    {
        if port.get("nodePort").and_then(Value::as_u64).is_some_and(|p| given.contains(&p)) {
            port.remove("nodePort");
        }
    }
}

/// This server has one range of IPv4 addresses.
fn families(service: &mut Value) -> Result<(), Vec<Cause>> {
    if kind(service) == "ExternalName" {
        return Ok(());
    }
    let spec = &mut service["spec"];
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        return Err(vec![Cause::invalid("spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], why)]);
    }
    for (i, family) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate() {
        if family != "IPv4" || i > 0 {
            let why = "not configured on this cluster";
            return Err(vec![Cause::invalid(format!("spec.ipFamilies[{i}]"), family, why)]);
        }
    }
    spec["ipFamilies"] = json!(["IPv4"]);
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    Ok(())
}

fn ports(service: &mut Value, reservation: &mut Reservation<'_>) -> Result<(), Vec<Cause>> {
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
    if causes.is_empty() { Ok(()) } else { Err(causes) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Services {
        Services::new("10.96.0.0/16".parse().expect("a CIDR"))
    }

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
    }

    fn create(services: &Services, name: &str, spec: Value) -> Result<Value, String> {
        update(services, &Value::Null, service(name, spec))
    }

    fn update(services: &Services, before: &Value, mut after: Value) -> Result<Value, String> {
        match services.admit(before, &mut after) {
            Ok(reservation) => reservation.commit(),
            Err(causes) => {
                return Err(causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect());
            }
        }
        Ok(after)
    }

    #[test]
    fn a_cluster_ip_is_given_honoured_and_unique() {
        let all = services();
        let given =
            create(&all, "a", json!({"type": "ClusterIP", "ports": [{"port": 80}]})).expect("admitted");
        assert_eq!(given["spec"]["clusterIPs"], json!([given["spec"]["clusterIP"]]));
        let asked = create(&all, "dns", json!({"clusterIP": "10.96.0.10"})).expect("admitted");
        assert_eq!(asked["spec"]["clusterIP"], "10.96.0.10");
        assert_eq!(
            create(&all, "b", json!({"clusterIP": "10.96.0.10"})),
            Err("spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated".into())
        );
        let outside = create(&all, "b", json!({"clusterIP": "10.0.0.1"})).expect_err("outside");
        assert!(outside.contains("The range of valid IPs is 10.96.0.0/16"), "{outside}");
        let headless = create(&all, "h", json!({"clusterIP": "None"})).expect("admitted");
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let external =
            create(&all, "e", json!({"type": "ExternalName", "externalName": "x"})).expect("admitted");
        assert!(external["spec"]["clusterIP"].is_null());
    }

    #[test]
    fn a_cluster_ip_stays() {
        let all = services();
        let before = create(&all, "a", json!({"clusterIP": "10.96.0.10"})).expect("admitted");
        let silent = update(&all, &before, service("a", json!({}))).expect("admitted");
        assert_eq!(silent["spec"]["clusterIP"], "10.96.0.10");
        let refused = update(&all, &before, service("a", json!({"clusterIP": "10.96.0.11"})));
        assert_eq!(
            refused,
            Err("spec.clusterIPs[0]: Invalid value: [\"10.96.0.11\"]: may not change once set".into())
        );
        let mut external = before.clone();
        external["spec"]["type"] = "ExternalName".into();
        let external = update(&all, &before, external).expect("admitted");
        assert!(external["spec"]["clusterIP"].is_null());
        assert!(create(&all, "b", json!({"clusterIP": "10.96.0.10"})).is_ok());
    }

    #[test]
    fn node_ports_are_given_kept_and_taken_back() {
        let all = services();
        let ports =
            json!([{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP", "nodePort": 30000}]);
        let before = create(&all, "a", json!({"type": "NodePort", "ports": ports})).expect("admitted");
        assert_eq!(before["spec"]["ports"][0]["nodePort"], 30001);
        let again = update(
            &all,
            &before,
            service("a", json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]})),
        );
        let again = again.expect("admitted");
        assert_eq!(again["spec"]["ports"][0]["nodePort"], 30001);
        let taken = create(&all, "b", json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30001}]}));
        assert_eq!(
            taken,
            Err("spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated".into())
        );
        let mut plain = again.clone();
        plain["spec"]["type"] = "ClusterIP".into();
        let plain = update(&all, &again, plain).expect("admitted");
        assert!(plain["spec"]["ports"][0]["nodePort"].is_null());
        assert!(
            create(&all, "b", json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30001}]})).is_ok()
        );
        let refused = create(&all, "c", json!({"ports": [{"port": 1, "nodePort": 30005}]}));
        assert!(refused.expect_err("no node port here").contains("may not be used"));
    }

    #[test]
    fn other_families_are_refused() {
        for spec in [json!({"ipFamilies": ["IPv6"]}), json!({"ipFamilyPolicy": "RequireDualStack"})] {
            assert!(create(&services(), "a", spec).is_err());
        }
    }
}
