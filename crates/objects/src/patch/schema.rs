//! Where lists of the built-in kinds merge by key instead of being replaced: the `patchStrategy`
//! and `patchMergeKey` tags of the Kubernetes types. Lists not named here are replaced; objects
//! are merged everywhere.

/// The fields of an object that do not merge in the ordinary way, or that lead to such.
#[derive(Debug, PartialEq)]
pub struct Schema(pub &'static [(&'static str, Field)]);

/// How one field merges.
#[derive(Debug, PartialEq)]
pub enum Field {
    /// An object with such fields of its own.
    Object(&'static Schema),
    /// A list of objects, matched by a key. The second key, where there is one, tells apart items
    /// that agree in the first (the `listMapKeys` of ports).
    Keyed {
        /// `patchMergeKey`.
        key: &'static str,
        /// A further key and what its absence means.
        second: Option<(&'static str, &'static str)>,
        /// The items' own fields.
        item: &'static Schema,
    },
    /// A list of plain values that is treated as a set.
    Set,
}

use Field::{Object, Set};

const fn by(key: &'static str, item: &'static Schema) -> Field {
    Field::Keyed { key, second: None, item }
}

const fn by_port(key: &'static str) -> Field {
    Field::Keyed { key, second: Some(("protocol", "TCP")), item: &PLAIN }
}

/// An object in which every list is replaced.
pub const PLAIN: Schema = Schema(&[]);

const METADATA: Schema = Schema(&[("ownerReferences", by("uid", &PLAIN)), ("finalizers", Set)]);

const CONDITIONS: Schema = Schema(&[("conditions", by("type", &PLAIN))]);

const CONTAINER: Schema = Schema(&[
    ("ports", by_port("containerPort")),
    ("env", by("name", &PLAIN)),
    ("volumeMounts", by("mountPath", &PLAIN)),
    ("volumeDevices", by("devicePath", &PLAIN)),
]);

const POD_SPEC: Schema = Schema(&[
    ("containers", by("name", &CONTAINER)),
    ("initContainers", by("name", &CONTAINER)),
    ("ephemeralContainers", by("name", &CONTAINER)),
    ("volumes", by("name", &PLAIN)),
    ("imagePullSecrets", by("name", &PLAIN)),
    ("hostAliases", by("ip", &PLAIN)),
    ("topologySpreadConstraints", by("topologyKey", &PLAIN)),
    ("resourceClaims", by("name", &PLAIN)),
    ("schedulingGates", by("name", &PLAIN)),
]);

const TEMPLATE: Schema = Schema(&[("metadata", Object(&METADATA)), ("spec", Object(&POD_SPEC))]);

const WORKLOAD_SPEC: Schema = Schema(&[("template", Object(&TEMPLATE))]);

const WORKLOAD: Schema = Schema(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&WORKLOAD_SPEC)),
    ("status", Object(&CONDITIONS)),
]);

const JOB_TEMPLATE: Schema = Schema(&[("metadata", Object(&METADATA)), ("spec", Object(&WORKLOAD_SPEC))]);

const CRON_JOB: Schema = Schema(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&Schema(&[("jobTemplate", Object(&JOB_TEMPLATE))]))),
]);

const POD: Schema = Schema(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&POD_SPEC)),
    (
        "status",
        Object(&Schema(&[
            ("conditions", by("type", &PLAIN)),
            ("podIPs", by("ip", &PLAIN)),
            ("hostIPs", by("ip", &PLAIN)),
        ])),
    ),
]);

const SERVICE: Schema = Schema(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&Schema(&[("ports", by_port("port"))]))),
    ("status", Object(&CONDITIONS)),
]);

const NODE: Schema = Schema(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&Schema(&[("podCIDRs", Set)]))),
    ("status", Object(&Schema(&[("conditions", by("type", &PLAIN)), ("addresses", by("type", &PLAIN))]))),
]);

const SERVICE_ACCOUNT: Schema = Schema(&[
    ("metadata", Object(&METADATA)),
    ("secrets", by("name", &PLAIN)),
    ("imagePullSecrets", by("name", &PLAIN)),
]);

/// A kind whose own lists are all replaced, apart from metadata and conditions.
const ORDINARY: Schema = Schema(&[("metadata", Object(&METADATA)), ("status", Object(&CONDITIONS))]);

/// The schema of a kind; [`PLAIN`] for kinds unknown here, which have no strategic merge.
pub fn of(api_version: &str, kind: &str) -> &'static Schema {
    match (api_version, kind) {
        ("v1", "Pod") => &POD,
        ("v1", "Service") => &SERVICE,
        ("v1", "Node") => &NODE,
        ("v1", "ServiceAccount") => &SERVICE_ACCOUNT,
        ("batch/v1", "CronJob") => &CRON_JOB,
        ("v1", "ReplicationController")
        | ("apps/v1", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch/v1", "Job") => &WORKLOAD,
        _ if crate::kinds::find(api_version, kind).is_some() => &ORDINARY,
        _ => &PLAIN,
    }
}
