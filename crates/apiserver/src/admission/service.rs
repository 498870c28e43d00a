//! Cluster IPs and node ports of Services.

use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::Family;
use serde_json::{Value, json};

use super::allocations::{Allocations, Claims, Refusal, Reservation};
use super::families;
use super::node_ports;
use crate::status::Cause;

/// Gives Services their addresses.
#[derive(Debug)]
pub struct Services {
    allocations: Allocations,
}

impl Services {
    /// Addresses from these ranges, at most one of each family; the first's is the default family.
    pub fn new(ranges: Vec<IpNet>) -> Self {
        Self { allocations: Allocations::new(ranges) }
    }

    /// A Service is gone; its last state.
    pub fn release(&self, service: &Value) {
        self.allocations.release(&claims(service));
    }

    /// Fills in and checks the families, addresses and node ports of a Service that is about to be
    /// stored; `before` is null for a new one.
    ///
    /// # Errors
    /// What is taken, out of range, or may not change.
    pub fn admit(&self, before: &Value, service: &mut Value) -> Result<Reservation<'_>, Vec<Cause>> {
        carry_over(before, service)?;
        check_kind(service).map_err(|cause| vec![cause])?;
        families::settle(before, service, &self.allocations.families())?;
        unchanged(before, service)?;
        let mut reservation = self.allocations.reserve(claims(before));
        if kind(service) != "ExternalName" && !is_headless(service) {
            self.addresses(service, &mut reservation).map_err(|cause| vec![cause])?;
        }
        node_ports::allocate(service, &mut reservation)?;
        Ok(reservation)
    }

    /// An address of each family: the one asked for, or any.
    fn addresses(&self, service: &mut Value, reservation: &mut Reservation<'_>) -> Result<(), Cause> {
        let asked: Vec<String> = list(&service["spec"]["clusterIPs"]).map(str::to_owned).collect();
        let families: Vec<Family> = list(&service["spec"]["ipFamilies"]).filter_map(Family::named).collect();
        let mut given: Vec<IpAddr> = Vec::new();
        // Those who ask for an address go first, so that nobody else is given it.
        for text in asked.iter().take(families.len()) {
            let not_one = |_| Cause::invalid("spec.clusterIPs", &json!(asked), "must be IP addresses");
            let address = text.parse().map_err(not_one)?;
            self.claim(address, &asked, reservation)?;
            given.push(address);
        }
        for family in families.into_iter().skip(given.len()) {
            given.push(reservation.any_address(family).map_err(|_| {
                let why = format!("failed to allocate a serviceIP: the {} range is full", family.name());
                Cause::invalid("spec.clusterIPs", &json!(asked), &why)
            })?);
        }
        service["spec"]["clusterIP"] = given.first().map(ToString::to_string).into();
        service["spec"]["clusterIPs"] = given.iter().map(ToString::to_string).collect();
        Ok(())
    }

    fn claim(
        &self,
        address: IpAddr,
        asked: &[String],
        reservation: &mut Reservation<'_>,
    ) -> Result<(), Cause> {
        reservation.address(address).map_err(|refusal| {
            let range = self.allocations.net(Family::of(&address));
            let why = match (refusal, range) {
                (Refusal::OutOfRange, Some(range)) => format!(
                    "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. \
                     The range of valid IPs is {range}"
                ),
                _ => format!("failed to allocate IP {address}: provided IP is already allocated"),
            };
            Cause::invalid("spec.clusterIPs", &json!(asked), &why)
        })
    }
}

/// What a stored Service holds.
fn claims(service: &Value) -> Claims {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports = ports.filter_map(|port| u16::try_from(port["nodePort"].as_u64()?).ok());
    let health_check = service["spec"]["healthCheckNodePort"].as_u64().and_then(|port| u16::try_from(port).ok());
    Claims {
        addresses: list(&service["spec"]["clusterIPs"]).filter_map(|ip| ip.parse().ok()).collect(),
        ports: ports.chain(health_check).filter(|port| *port != 0).collect(),
    }
}

pub fn kind(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

/// Whether a Service has no addresses of its own.
pub fn is_headless(service: &Value) -> bool {
    list(&service["spec"]["clusterIPs"]).next() == Some("None")
}

/// The texts of a list, without empty ones.
pub fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).filter(|text| !text.is_empty())
}

/// Makes `clusterIP` and `clusterIPs` agree, and keeps what an update does not mention.
fn carry_over(before: &Value, service: &mut Value) -> Result<(), Vec<Cause>> {
    let had = |field: &str| match kind(before) {
        "ExternalName" => Value::Null,
        _ => before["spec"][field].clone(),
    };
    let (old_ip, old_ips) = (had("clusterIP"), had("clusterIPs"));
    if !before.is_null() && kind(service) == "ExternalName" {
        drop_addresses(before, service);
    } else {
        let given = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let ips: Vec<String> = list(&service["spec"]["clusterIPs"]).map(str::to_owned).collect();
        let same = json!(ips) == old_ips;
        let (ip, ips) = match (given.as_str(), ips.first()) {
            ("", None) => (old_ip, old_ips),
            ("", Some(first)) => (json!(first), json!(ips)),
            (ip, None) if *ip == old_ip => (old_ip, old_ips),
            (ip, None) => (json!(ip), json!([ip])),
            (ip, Some(first)) if ip == first => (json!(ip), json!(ips)),
            // Only the one field was edited.
            (ip, Some(_)) if same => {
                let rest = ips.iter().skip(1).map(String::as_str);
                (json!(ip), std::iter::once(ip).chain(rest).collect())
            }
            (_, Some(_)) => {
                let why = "first value must match `clusterIP`";
                return Err(vec![Cause::invalid("spec.clusterIPs", &json!(ips), why)]);
            }
        };
        set(service, "clusterIP", ip);
        set(service, "clusterIPs", ips);
        if is_headless(service) && list(&service["spec"]["ipFamilies"]).next().is_none() {
            set(service, "ipFamilies", had("ipFamilies"));
        }
    }
    if !before.is_null() {
        node_ports::carry_over(before, service);
    }
    Ok(())
}

fn set(service: &mut Value, field: &str, value: Value) {
    if !value.is_null() {
        service["spec"][field] = value;
    }
}

/// A Service that becomes an ExternalName loses what it had; what its owner has just written stays, and
/// is refused later.
fn drop_addresses(before: &Value, service: &mut Value) {
    if let Some(spec) = service["spec"].as_object_mut() {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if spec.get(field) == before["spec"].get(field) {
                spec.remove(field);
            }
        }
    }
}

/// Which types may say what about addresses.
fn check_kind(service: &Value) -> Result<(), Cause> {
    let kind = kind(service);
    if kind == "ExternalName" && list(&service["spec"]["clusterIPs"]).next().is_some() {
        let why = "may not be set when `type` is 'ExternalName'";
        return Err(Cause::forbidden("spec.clusterIPs[0]", why));
    }
    if is_headless(service) && kind != "ClusterIP" {
        let why = format!("may not be set to 'None' for {kind} services");
        return Err(Cause::invalid("spec.clusterIPs[0]", &"None".into(), &why));
    }
    Ok(())
}

/// An address or a family that a Service has stays in its place.
fn unchanged(before: &Value, service: &Value) -> Result<(), Vec<Cause>> {
    if kind(before) == "ExternalName" || kind(service) == "ExternalName" {
        return Ok(());
    }
    let mut causes = Vec::new();
    for field in ["clusterIPs", "ipFamilies"] {
        let (old, new) = (list(&before["spec"][field]), list(&service["spec"][field]));
        for (i, (_, new)) in old.zip(new).enumerate().filter(|(_, (old, new))| old != new) {
            let why = "may not change once set";
            causes.push(Cause::invalid(format!("spec.{field}[{i}]"), &json!([new]), why));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual_stack(ranges: &[&str]) -> Services {
        Services::new(ranges.iter().map(|range| range.parse().expect("a CIDR")).collect())
    }

    fn services() -> Services {
        dual_stack(&["10.96.0.0/16"])
    }

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
    }

    fn create(services: &Services, name: &str, spec: Value) -> Result<Value, String> {
        update(services, &Value::Null, service(name, spec))
    }

    fn update(services: &Services, before: &Value, mut after: Value) -> Result<Value, String> {
        super::super::leftovers::drop_leftovers(before, &mut after);
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
    fn a_health_check_has_a_node_port_of_its_own_while_it_is_needed() {
        let all = services();
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80, "protocol": "TCP"}]});
        let before = create(&all, "a", spec.clone()).expect("admitted");
        assert_eq!(before["spec"]["healthCheckNodePort"], 30000);
        assert!(before["spec"]["ports"][0]["nodePort"].is_null());
        let again = update(&all, &before, service("a", spec.clone())).expect("admitted");
        assert_eq!(again["spec"]["healthCheckNodePort"], 30000, "kept");
        let mut asking = spec;
        asking["healthCheckNodePort"] = 30000.into();
        let taken = create(&all, "b", asking.clone()).expect_err("taken");
        assert!(taken.contains("spec.healthCheckNodePort: Invalid value: 30000: provided port is already allocated"));
        let mut open = again.clone();
        open["spec"]["externalTrafficPolicy"] = "Cluster".into();
        let open = update(&all, &again, open).expect("admitted");
        assert!(open["spec"]["healthCheckNodePort"].is_null());
        assert_eq!(create(&all, "b", asking).expect("free")["spec"]["healthCheckNodePort"], 30000);
    }

    fn both() -> Services {
        dual_stack(&["10.96.0.0/16", "fd00:96::/108"])
    }

    /// The policy, the families and the addresses.
    fn stack(service: &Value) -> String {
        let spec = &service["spec"];
        let texts = |field: &str| list(&spec[field]).collect::<Vec<_>>().join(",");
        let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("-");
        format!("{policy} {} {}", texts("ipFamilies"), texts("clusterIPs"))
    }

    fn made(services: &Services, spec: Value) -> String {
        create(services, "a", spec).map_or_else(|refused| refused, |service| stack(&service))
    }

    #[test]
    fn policies_and_families_lead_to_addresses() {
        let app = json!({"app": "a"});
        let with = |fields: Value| {
            let mut spec = json!({"selector": app});
            spec.as_object_mut().expect("BUG").extend(fields.as_object().expect("BUG").clone());
            spec
        };
        let cases = [
            (json!({}), "SingleStack IPv4 10.96.1.1"),
            (json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6 fd00:96::101"),
            (
                json!({"ipFamilyPolicy": "PreferDualStack"}),
                "PreferDualStack IPv4,IPv6 10.96.1.1,fd00:96::101",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
                "RequireDualStack IPv6,IPv4 fd00:96::101,10.96.1.1",
            ),
            (json!({"clusterIP": "fd00:96::7"}), "SingleStack IPv6 fd00:96::7"),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "fd00:96::7"}),
                "PreferDualStack IPv6,IPv4 fd00:96::7,10.96.1.1",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["10.96.0.9", "fd00:96::7"]}),
                "RequireDualStack IPv4,IPv6 10.96.0.9,fd00:96::7",
            ),
            (json!({"clusterIP": "None"}), "SingleStack IPv4 None"),
            (
                json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}),
                "PreferDualStack IPv4,IPv6 None",
            ),
            (json!({"clusterIP": "None", "selector": {}}), "RequireDualStack IPv4,IPv6 None"),
        ];
        for (fields, expected) in cases {
            assert_eq!(made(&both(), with(fields.clone())), expected, "{fields}");
        }
    }

    #[test]
    fn what_does_not_agree_is_refused_with_its_field() {
        let cases = [
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
            (
                json!({"clusterIPs": ["10.96.0.9", "fd00:96::7"]}),
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
            ),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.9", "10.96.0.8"]}),
                "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"10.96.0.8\"]: may specify no more than one IP for each IP family",
            ),
            (
                json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]}),
                "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ),
            (
                json!({"ipFamilies": ["IPv5"]}),
                "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv4"]}),
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
            ),
            (
                json!({"clusterIPs": ["None", "10.96.0.9"]}),
                "spec.clusterIPs: Invalid value: [\"None\",\"10.96.0.9\"]: 'None' must be the first and only value",
            ),
            (
                json!({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.9"]}),
                "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: first value must match `clusterIP`",
            ),
            (
                json!({"type": "ExternalName", "externalName": "x", "ipFamilies": ["IPv4"]}),
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            ),
            (
                json!({"type": "NodePort", "clusterIP": "None"}),
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(made(&both(), spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn a_cluster_of_one_family_gives_what_it_has() {
        for (spec, expected) in [
            (json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4 10.96.1.1"),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({"clusterIP": "fd00::1"}),
                "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
            ),
            (json!({"clusterIP": "None"}), "RequireDualStack IPv4,IPv6 None"),
        ] {
            assert_eq!(made(&services(), spec.clone()), expected, "{spec}");
        }
        let six = dual_stack(&["fd00:96::/108"]);
        assert_eq!(made(&six, json!({})), "SingleStack IPv6 fd00:96::101");
    }

    #[test]
    fn a_service_gains_and_gives_up_its_second_family_by_policy() {
        let all = both();
        let single = create(&all, "a", json!({"clusterIP": "10.96.0.10"})).expect("admitted");
        let upgrade = service("a", json!({"ipFamilyPolicy": "RequireDualStack"}));
        let dual = update(&all, &single, upgrade).expect("admitted");
        assert_eq!(stack(&dual), "RequireDualStack IPv4,IPv6 10.96.0.10,fd00:96::101");
        // As `kubectl replace` sends it: nothing said about addresses.
        let silent = update(&all, &dual, service("a", json!({}))).expect("admitted");
        assert_eq!(stack(&silent), stack(&dual));

        let mut cut = dual.clone();
        cut["spec"]["clusterIPs"] = json!(["10.96.0.10"]);
        let refused = update(&all, &dual, cut).expect_err("the policy holds it");
        assert!(refused.contains("must be 'SingleStack' to release the secondary cluster IP"), "{refused}");
        let mut other = dual.clone();
        other["spec"]["clusterIPs"][1] = "fd00:96::9".into();
        let refused = update(&all, &dual, other).expect_err("taken for good");
        assert!(
            refused.contains("spec.clusterIPs[1]") && refused.contains("may not change once set"),
            "{refused}"
        );

        let mut down = dual.clone();
        down["spec"]["ipFamilyPolicy"] = "SingleStack".into();
        let down = update(&all, &dual, down).expect("admitted");
        assert_eq!(stack(&down), "SingleStack IPv4 10.96.0.10");
        let again = create(&all, "b", json!({"clusterIP": "fd00:96::101"})).expect("it was given back");
        assert_eq!(stack(&again), "SingleStack IPv6 fd00:96::101");
        let mut swapped = down.clone();
        swapped["spec"]["ipFamilies"] = json!(["IPv6"]);
        assert!(update(&all, &down, swapped).is_err());
    }
}
