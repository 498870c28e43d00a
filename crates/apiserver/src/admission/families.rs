//! Which address families a Service has (KEP-563): `ipFamilyPolicy`, `ipFamilies` and, where given,
//! `clusterIPs` made to agree with each other and with what this cluster has.

use kilter_model::Family;
use serde_json::{Value, json};

use super::service::{is_headless, kind, list};
use crate::status::Cause;

/// Fills in what is not said and refuses what does not agree. `configured` are the families that the
/// cluster has Service addresses of; the first is the default. `clusterIP` and `clusterIPs` must agree.
pub fn settle(before: &Value, service: &mut Value, configured: &[Family]) -> Result<(), Vec<Cause>> {
    if kind(service) == "ExternalName" {
        return refuse_leftovers(service);
    }
    if stays_preferring_dual_stack(before, service) {
        return Ok(());
    }
    default_policy(before, service);
    let causes = malformed(&service["spec"]);
    if !causes.is_empty() {
        return Err(causes);
    }
    let causes = [downgrade(before, service), infer(service, configured)].concat();
    if !causes.is_empty() {
        return Err(causes);
    }
    let families = complete(service, configured)?;
    service["spec"]["ipFamilies"] = families.iter().map(|family| family.name()).collect();
    Ok(())
}

fn policy(service: &Value) -> &str {
    service["spec"]["ipFamilyPolicy"].as_str().unwrap_or_default()
}

fn families(service: &Value) -> Vec<Family> {
    list(&service["spec"]["ipFamilies"]).filter_map(Family::named).collect()
}

/// An ExternalName has no addresses, so it has no families.
fn refuse_leftovers(service: &Value) -> Result<(), Vec<Cause>> {
    let set = |field: &&str| match &service["spec"][*field] {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    let causes: Vec<_> = ["ipFamilyPolicy", "ipFamilies"]
        .iter()
        .filter(|field| set(field))
        .map(|field| Cause::forbidden(format!("spec.{field}"), "may not be set for ExternalName services"))
        .collect();
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

/// A Service that prefers two families and says nothing new keeps what it has, also when the cluster
/// has gained or lost a family since.
fn stays_preferring_dual_stack(before: &Value, service: &Value) -> bool {
    policy(before) == "PreferDualStack"
        && policy(service) == "PreferDualStack"
        && kind(before) != "ExternalName"
        && before["spec"]["clusterIPs"] == service["spec"]["clusterIPs"]
        && before["spec"]["ipFamilies"] == service["spec"]["ipFamilies"]
}

fn default_policy(before: &Value, service: &mut Value) {
    if !policy(service).is_empty() {
        return;
    }
    let selectorless = service["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    service["spec"]["ipFamilyPolicy"] = match policy(before) {
        "" if is_headless(service) && selectorless => "RequireDualStack".into(),
        "" => "SingleStack".into(),
        kept => kept.into(),
    };
}

/// What is wrong with the fields whatever the cluster is.
fn malformed(spec: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let names: Vec<&str> = list(&spec["ipFamilies"]).collect();
    for (i, name) in names.iter().enumerate() {
        let field = format!("spec.ipFamilies[{i}]");
        if Family::named(name).is_none() {
            let message = format!("Unsupported value: {name:?}: supported values: \"IPv4\", \"IPv6\"");
            causes.push(Cause { field, message });
        } else if names[..i].contains(name) {
            causes.push(Cause { field, message: format!("Duplicate value: {name:?}") });
        }
    }
    let ips: Vec<&str> = list(&spec["clusterIPs"]).collect();
    let of_all = |why: &str| Cause::invalid("spec.clusterIPs", &spec["clusterIPs"], why);
    if ips.first() == Some(&"None") {
        if ips.len() > 1 {
            causes.push(of_all("'None' must be the first and only value"));
        }
        return causes;
    }
    if ips.len() > 2 {
        causes.push(of_all("may only hold up to 2 values"));
    }
    let mut seen = Vec::new();
    for (i, ip) in ips.iter().enumerate() {
        let field = format!("spec.clusterIPs[{i}]");
        let Ok(address) = ip.parse() else {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(field, &json!(ip), why));
            continue;
        };
        let family = Family::of(&address);
        match names.get(i).and_then(|name| Family::named(name)) {
            Some(wanted) if wanted != family => {
                let why = format!("expected an {} value as indicated by `ipFamilies[{i}]`", wanted.name());
                causes.push(Cause::invalid(field, &json!(ip), &why));
            }
            _ if seen.contains(&family) => {
                causes.push(of_all("may specify no more than one IP for each IP family"));
            }
            _ => {}
        }
        seen.push(family);
    }
    causes
}

/// An update to SingleStack that leaves the second address and family in place gives them up; any other
/// policy does not let go of them.
fn downgrade(before: &Value, service: &mut Value) -> Vec<Cause> {
    if before.is_null() || kind(before) == "ExternalName" {
        return Vec::new();
    }
    let mut causes = Vec::new();
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (old, new) = (list(&before["spec"][field]).count(), list(&service["spec"][field]).count());
        if policy(service) == "SingleStack" {
            if before["spec"][field] == service["spec"][field]
                && let Some(values) = service["spec"][field].as_array_mut()
            {
                values.truncate(1);
            }
        } else if new > 0 && new < old {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            causes.push(Cause::invalid("spec.ipFamilyPolicy", &service["spec"]["ipFamilyPolicy"], &why));
        }
    }
    causes
}

/// Families that only the given addresses name.
fn infer(service: &mut Value, configured: &[Family]) -> Vec<Cause> {
    let mut causes = Vec::new();
    let single = policy(service) == "SingleStack";
    for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if single && list(&service["spec"][field]).count() == 2 {
            let why =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            causes.push(Cause::invalid("spec.ipFamilyPolicy", &service["spec"]["ipFamilyPolicy"], &why));
        }
    }
    let mut all = families(service);
    for (i, ip) in list(&service["spec"]["clusterIPs"]).enumerate().skip(all.len()) {
        let Ok(address) = ip.parse() else { break };
        let family = Family::of(&address);
        if !configured.contains(&family) {
            let why = format!("{} is not configured on this cluster", family.name());
            causes.push(Cause::invalid(
                format!("spec.clusterIPs[{i}]"),
                &service["spec"]["clusterIPs"],
                &why,
            ));
        }
        all.push(family);
    }
    service["spec"]["ipFamilies"] = all.iter().map(|family| family.name()).collect();
    causes
}

/// The families in full, or why the cluster cannot give them.
fn complete(service: &Value, configured: &[Family]) -> Result<Vec<Family>, Vec<Cause>> {
    let mut all = families(service);
    let wants_two = policy(service) != "SingleStack";
    let selectorless = service["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    // Whoever writes the endpoints of a headless Service may write both families on any cluster.
    let anything = is_headless(service) && selectorless;
    let mut causes = Vec::new();
    if !anything && policy(service) == "RequireDualStack" && configured.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        causes.push(Cause::invalid("spec.ipFamilyPolicy", &service["spec"]["ipFamilyPolicy"], why));
    }
    for (i, family) in all.iter().enumerate().filter(|(_, family)| !anything && !configured.contains(family))
    {
        let field = format!("spec.ipFamilies[{i}]");
        causes.push(Cause::invalid(field, &family.name().into(), "not configured on this cluster"));
    }
    if !causes.is_empty() {
        return Err(causes);
    }
    if all.is_empty() {
        all.extend(configured.first());
    }
    if let ([one], true) = (all.as_slice(), wants_two)
        && (anything || configured.len() == 2)
    {
        all.push(one.other());
    }
    Ok(all)
}
