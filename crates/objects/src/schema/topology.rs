//! How lists and maps of the built-in types merge: the `listType`, `listMapKey` and `mapType`
//! markers of the Kubernetes API (KEP-555). The generated types carry structure only; what is not
//! named here is replaced as a whole if it is a list, and merged by field if it is an object.

/// How one field of one type merges, where it is not as its structure says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Topology {
    /// A list of objects that are told apart by these fields.
    Keyed(&'static [&'static str]),
    /// A list of different plain values.
    Set,
    /// A map that is replaced as a whole.
    AtomicMap,
}

use Topology::{AtomicMap, Keyed, Set};

const NAME: Topology = Keyed(&["name"]);
const TYPE: Topology = Keyed(&["type"]);
const CORE: &str = "io.k8s.api.core.v1.";
const APPS: &str = "io.k8s.api.apps.v1.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Package, type, field, and how it merges.
pub(super) const FIELDS: &[(&str, &str, &str, Topology)] = &[
    (META, "ObjectMeta", "finalizers", Set),
    (META, "ObjectMeta", "ownerReferences", Keyed(&["uid"])),
    (APPS, "DaemonSetStatus", "conditions", TYPE),
    (APPS, "DeploymentStatus", "conditions", TYPE),
    (APPS, "ReplicaSetStatus", "conditions", TYPE),
    (APPS, "StatefulSetStatus", "conditions", TYPE),
    ("io.k8s.api.autoscaling.v2.", "HorizontalPodAutoscalerStatus", "conditions", TYPE),
    ("io.k8s.api.batch.v1.", "PodFailurePolicyOnExitCodesRequirement", "values", Set),
    ("io.k8s.api.batch.v1.", "UncountedTerminatedPods", "failed", Set),
    ("io.k8s.api.batch.v1.", "UncountedTerminatedPods", "succeeded", Set),
    (CORE, "Container", "env", NAME),
    (CORE, "Container", "ports", Keyed(&["containerPort", "protocol"])),
    (CORE, "Container", "volumeDevices", Keyed(&["devicePath"])),
    (CORE, "Container", "volumeMounts", Keyed(&["mountPath"])),
    (CORE, "ContainerRestartRuleOnExitCodes", "values", Set),
    (CORE, "EphemeralContainer", "env", NAME),
    (CORE, "EphemeralContainer", "ports", Keyed(&["containerPort", "protocol"])),
    (CORE, "EphemeralContainer", "volumeDevices", Keyed(&["devicePath"])),
    (CORE, "EphemeralContainer", "volumeMounts", Keyed(&["mountPath"])),
    (CORE, "ContainerStatus", "allocatedResourcesStatus", NAME),
    (CORE, "ContainerStatus", "volumeMounts", Keyed(&["mountPath"])),
    (CORE, "NamespaceStatus", "conditions", TYPE),
    (CORE, "NodeSpec", "podCIDRs", Set),
    (CORE, "NodeStatus", "addresses", TYPE),
    (CORE, "NodeStatus", "conditions", TYPE),
    (CORE, "PersistentVolumeClaimStatus", "conditions", TYPE),
    (CORE, "PodSpec", "containers", NAME),
    (CORE, "PodSpec", "ephemeralContainers", NAME),
    (CORE, "PodSpec", "hostAliases", Keyed(&["ip"])),
    (CORE, "PodSpec", "imagePullSecrets", NAME),
    (CORE, "PodSpec", "initContainers", NAME),
    (CORE, "PodSpec", "nodeSelector", AtomicMap),
    (CORE, "PodSpec", "resourceClaims", NAME),
    (CORE, "PodSpec", "schedulingGates", NAME),
    (CORE, "PodSpec", "topologySpreadConstraints", Keyed(&["topologyKey", "whenUnsatisfiable"])),
    (CORE, "PodSpec", "volumes", NAME),
    (CORE, "PodStatus", "conditions", TYPE),
    (CORE, "PodStatus", "podIPs", Keyed(&["ip"])),
    (CORE, "PodStatus", "resourceClaimStatuses", NAME),
    (CORE, "ReplicationControllerSpec", "selector", AtomicMap),
    (CORE, "ReplicationControllerStatus", "conditions", TYPE),
    (CORE, "ResourceRequirements", "claims", NAME),
    (CORE, "ServiceAccount", "secrets", NAME),
    (CORE, "ServiceSpec", "ports", Keyed(&["port", "protocol"])),
    (CORE, "ServiceSpec", "selector", AtomicMap),
    (CORE, "ServiceStatus", "conditions", TYPE),
    ("io.k8s.api.discovery.v1.", "Endpoint", "addresses", Set),
    ("io.k8s.api.policy.v1.", "PodDisruptionBudgetStatus", "conditions", TYPE),
];

/// Objects that are replaced as a whole.
pub(super) const ATOMIC: &[(&str, &[&str])] = &[
    (META, &["LabelSelector", "OwnerReference"]),
    (
        CORE,
        &[
            "ConfigMapKeySelector",
            "EndpointAddress",
            "EndpointPort",
            "FileKeySelector",
            "LocalObjectReference",
            "NodeSelector",
            "NodeSelectorTerm",
            "ObjectFieldSelector",
            "ObjectReference",
            "ResourceFieldSelector",
            "ScopeSelector",
            "ScopedResourceSelectorRequirement",
            "SecretKeySelector",
            "SecretReference",
            "TopologySelectorTerm",
            "TypedLocalObjectReference",
        ],
    ),
    ("io.k8s.api.discovery.v1.", &["EndpointPort"]),
    ("io.k8s.api.rbac.v1.", &["RoleRef", "Subject"]),
];

/// What an absent field means, where it is part of a key.
pub(super) const DEFAULTS: &[(&str, &str, &str, &str)] =
    &[(CORE, "ContainerPort", "protocol", "TCP"), (CORE, "ServicePort", "protocol", "TCP")];
