//! `meta.k8s.io/v1` Table: the columns of `kubectl get`, decided by the server.

mod cluster;
mod config;
mod custom;
mod events;
mod network;
mod pods;
#[cfg(test)]
mod tests;
mod text;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::resources::Resource;

/// One column.
#[derive(Debug)]
struct Column {
    name: &'static str,
    /// The OpenAPI type of its cells.
    kind: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    priority: u8,
}

/// How one kind is printed.
struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

const fn column(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 0 }
}

const fn number(name: &'static str) -> Column {
    Column { name, kind: "integer", priority: 0 }
}

const fn wide(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 1 }
}

/// Of each row's object, what is sent along (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata, the default.
    Metadata,
    /// All of it.
    Object,
}

static GENERIC: Printer = Printer {
    columns: &[column("Name"), column("Created At")],
    cells: |v, _| vec![text::name(v), v["metadata"]["creationTimestamp"].clone()],
};

static NAME_AND_AGE: Printer = Printer {
    columns: &[column("Name"), column("Age")],
    cells: |v, now| vec![text::name(v), text::age(v, now)],
};

fn printer(resource: &Resource) -> &'static Printer {
    match (resource.kind.group, resource.kind.kind) {
        ("", "Pod") => &pods::PODS,
        ("apps", "Deployment") => &workloads::DEPLOYMENTS,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => &workloads::REPLICA_SETS,
        ("apps", "StatefulSet") => &workloads::STATEFUL_SETS,
        ("apps", "DaemonSet") => &workloads::DAEMON_SETS,
        ("apps", "ControllerRevision") => &workloads::CONTROLLER_REVISIONS,
        ("batch", "Job") => &workloads::JOBS,
        ("batch", "CronJob") => &workloads::CRON_JOBS,
        ("", "Service") => &network::SERVICES,
        ("", "Endpoints") => &network::ENDPOINTS,
        ("discovery.k8s.io", "EndpointSlice") => &network::ENDPOINT_SLICES,
        ("networking.k8s.io", "NetworkPolicy") => &network::NETWORK_POLICIES,
        ("policy.networking.k8s.io", "ClusterNetworkPolicy") => &network::CLUSTER_NETWORK_POLICIES,
        ("networking.k8s.io", "Ingress") => &network::INGRESSES,
        ("networking.k8s.io", "IngressClass") => &network::INGRESS_CLASSES,
        ("", "Node") => &cluster::NODES,
        ("", "Namespace") => &cluster::NAMESPACES,
        ("", "PersistentVolumeClaim") => &cluster::CLAIMS,
        (_, "Event") => &events::EVENTS,
        ("", "ConfigMap") => &config::CONFIG_MAPS,
        ("", "Secret") => &config::SECRETS,
        ("", "ServiceAccount") => &config::SERVICE_ACCOUNTS,
        ("coordination.k8s.io", "Lease") => &config::LEASES,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &config::ROLE_BINDINGS,
        ("rbac.authorization.k8s.io", _) => &GENERIC,
        _ => &NAME_AND_AGE,
    }
}

/// The column definitions of a resource.
pub fn columns(resource: &Resource) -> Value {
    if let Some(custom) = &resource.custom {
        return custom::columns(&custom.now());
    }
    let columns = printer(resource).columns.iter().map(|c| {
        let format = if c.name == "Name" { "name" } else { "" };
        json!({"name": c.name, "type": c.kind, "format": format, "description": c.name, "priority": c.priority})
    });
    columns.collect()
}

/// One row.
pub fn row(resource: &Resource, object: Value, include: Include, now: Timestamp) -> Value {
    let cells = match &resource.custom {
        Some(custom) => custom::cells(&custom.now(), &object, now),
        None => (printer(resource).cells)(&object, now),
    };
    let mut row = json!({"cells": cells});
    match include {
        Include::None => {}
        Include::Metadata => row["object"] = metadata_only(&object),
        Include::Object => row["object"] = object,
    }
    row
}

/// A table of rows; without `columns` where the client has seen them.
pub fn table(columns: Option<Value>, rows: Vec<Value>, metadata: Value) -> Value {
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns.unwrap_or_else(|| json!([])), "rows": rows,
    })
}

/// A `metav1.LabelSelector` as `kubectl -l` takes it; empty where it selects nothing in particular.
pub fn selector_text(selector: &Value) -> String {
    match text::selector(selector) {
        none if none == text::NONE => String::new(),
        some => some,
    }
}

/// `meta.k8s.io/v1` PartialObjectMetadata.
pub fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
