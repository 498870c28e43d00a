use serde_json::Value;

use super::text::{NONE, age, items, joined, labels, name, or_none, selector, some_of};
use super::{Printer, column, wide};

pub static SERVICES: Printer = Printer {
    columns: &[
        column("Name"),
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        column("Age"),
        wide("Selector"),
    ],
    cells: |v, now| {
        let spec = &v["spec"];
        vec![
            name(v),
            spec["type"].clone(),
            or_none(&spec["clusterIPs"][0]),
            external(v).into(),
            joined(items(&spec["ports"]).map(port)).into(),
            age(v, now),
            labels(&spec["selector"]).into(),
        ]
    },
};

fn external(service: &Value) -> String {
    let spec = &service["spec"];
    let given = items(&spec["externalIPs"]).filter_map(Value::as_str).map(str::to_owned);
    match spec["type"].as_str().unwrap_or_default() {
        "ExternalName" => spec["externalName"].as_str().unwrap_or_default().to_owned(),
        "LoadBalancer" => {
            let all: Vec<String> = addresses(service).chain(given).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => joined(given),
    }
}

/// Where the load balancer of a Service or an Ingress is.
fn addresses(value: &Value) -> impl Iterator<Item = String> {
    items(&value["status"]["loadBalancer"]["ingress"])
        .filter_map(|i| i["ip"].as_str().filter(|ip| !ip.is_empty()).or(i["hostname"].as_str()))
        .map(str::to_owned)
}

fn port(port: &Value) -> String {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    match port["nodePort"].as_i64().filter(|p| *p != 0) {
        Some(node_port) => format!("{}:{node_port}/{protocol}", port["port"]),
        None => format!("{}/{protocol}", port["port"]),
    }
}

pub static ENDPOINTS: Printer = Printer {
    columns: &[column("Name"), column("Endpoints"), column("Age")],
    cells: |v, now| {
        let mut all = Vec::new();
        for subset in items(&v["subsets"]) {
            let ports: Vec<&Value> = items(&subset["ports"]).map(|p| &p["port"]).collect();
            let ips = || items(&subset["addresses"]).map(|a| a["ip"].as_str().unwrap_or_default());
            if ports.is_empty() {
                all.extend(ips().map(str::to_owned));
            }
            for port in ports {
                all.extend(ips().map(|ip| host_port(ip, port)));
            }
        }
        vec![name(v), some_of(all, 3, NONE).into(), age(v, now)]
    },
};

fn host_port(ip: &str, port: &Value) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub static ENDPOINT_SLICES: Printer = Printer {
    columns: &[column("Name"), column("AddressType"), column("Ports"), column("Endpoints"), column("Age")],
    cells: |v, now| {
        let ports = items(&v["ports"]).map(|p| p["port"].as_i64().map_or("*".to_owned(), |n| n.to_string()));
        let addresses = items(&v["endpoints"]).flat_map(|e| items(&e["addresses"]));
        let addresses = addresses.filter_map(Value::as_str).map(str::to_owned);
        vec![
            name(v),
            v["addressType"].clone(),
            some_of(ports.collect(), 3, "<unset>").into(),
            some_of(addresses.collect(), 3, "<unset>").into(),
            age(v, now),
        ]
    },
};

pub static NETWORK_POLICIES: Printer = Printer {
    columns: &[column("Name"), column("Pod-Selector"), column("Age")],
    cells: |v, now| vec![name(v), selector(&v["spec"]["podSelector"]).into(), age(v, now)],
};

pub static CLUSTER_NETWORK_POLICIES: Printer = Printer {
    columns: &[column("Name"), column("Tier"), column("Priority"), column("Age")],
    cells: |v, now| {
        // The CustomResourceDefinition has both as text.
        let priority = v["spec"]["priority"].as_i64().map(|it| it.to_string()).unwrap_or_default();
        vec![name(v), v["spec"]["tier"].as_str().unwrap_or_default().into(), priority.into(), age(v, now)]
    },
};

pub static INGRESSES: Printer = Printer {
    columns: &[
        column("Name"),
        column("Class"),
        column("Hosts"),
        column("Address"),
        column("Ports"),
        column("Age"),
    ],
    cells: |v, now| {
        let spec = &v["spec"];
        let hosts = items(&spec["rules"]).filter_map(|r| r["host"].as_str()).filter(|h| !h.is_empty());
        let hosts: Vec<String> = hosts.map(str::to_owned).collect();
        let ports = if items(&spec["tls"]).count() > 0 { "80, 443" } else { "80" };
        vec![
            name(v),
            or_none(&spec["ingressClassName"]),
            some_of(hosts, 3, "*").into(),
            addresses(v).collect::<Vec<_>>().join(",").into(),
            ports.into(),
            age(v, now),
        ]
    },
};

pub static INGRESS_CLASSES: Printer = Printer {
    columns: &[column("Name"), column("Controller"), column("Parameters"), column("Age")],
    cells: |v, now| {
        let parameters = &v["spec"]["parameters"];
        let text = |key: &str| parameters[key].as_str().unwrap_or_default();
        let shown = match (text("kind"), text("apiGroup")) {
            ("", _) => NONE.to_owned(),
            (kind, "") => format!("{kind}/{}", text("name")),
            (kind, group) => format!("{kind}.{group}/{}", text("name")),
        };
        vec![name(v), v["spec"]["controller"].clone(), shown.into(), age(v, now)]
    },
};
