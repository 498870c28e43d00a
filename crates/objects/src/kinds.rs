//! The kinds that Kilter knows: what the embedded API serves and what manifests may contain.

/// What Kilter does with objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handling {
    /// It acts on them: they are part of the network or make pods.
    Acts,
    /// Analysis counts the pods they would make; a twin stores them and runs nothing.
    Analyses,
    /// They do not touch the network: stored, so that manifests apply and can be read back.
    Stores,
}

/// A kind of the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version in that group.
    pub version: &'static str,
    /// `kind`, in camel case.
    pub kind: &'static str,
    /// The resource name in URLs.
    pub plural: &'static str,
    /// The singular that kubectl accepts.
    pub singular: &'static str,
    /// Short names that kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether there is a `status` subresource.
    pub status: bool,
    /// Whether there is a `scale` subresource (`autoscaling/v1` Scale).
    pub scale: bool,
    /// Whether `kubectl get all` shows it.
    pub in_all: bool,
    /// What Kilter does with it.
    pub handling: Handling,
}

impl Kind {
    /// `v1`, `apps/v1`...
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

const fn kind(
    (group, version): (&'static str, &'static str),
    name: &'static str,
    (plural, singular): (&'static str, &'static str),
    short_names: &'static [&'static str],
    handling: Handling,
) -> Kind {
    Kind {
        group,
        version,
        kind: name,
        plural,
        singular,
        short_names,
        namespaced: true,
        status: false,
        scale: false,
        in_all: false,
        handling,
    }
}

impl Kind {
    const fn cluster_scoped(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn with_status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn with_scale(mut self) -> Self {
        self.scale = true;
        self
    }

    const fn in_all(mut self) -> Self {
        self.in_all = true;
        self
    }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const BATCH: (&str, &str) = ("batch", "v1");
const NET: (&str, &str) = ("networking.k8s.io", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");

use Handling::{Acts, Analyses, Stores};

/// All of them, in the order in which discovery lists them.
#[rustfmt::skip]
pub const KINDS: &[Kind] = &[
    kind(CORE, "Namespace", ("namespaces", "namespace"), &["ns"], Acts).cluster_scoped().with_status(),
    kind(CORE, "Node", ("nodes", "node"), &["no"], Acts).cluster_scoped().with_status(),
    kind(CORE, "Pod", ("pods", "pod"), &["po"], Acts).with_status().in_all(),
    kind(CORE, "Service", ("services", "service"), &["svc"], Acts).with_status().in_all(),
    kind(CORE, "Event", ("events", "event"), &["ev"], Acts),
    kind(CORE, "ConfigMap", ("configmaps", "configmap"), &["cm"], Stores),
    kind(CORE, "Endpoints", ("endpoints", "endpoints"), &["ep"], Stores),
    kind(CORE, "LimitRange", ("limitranges", "limitrange"), &["limits"], Stores),
    kind(CORE, "PersistentVolume", ("persistentvolumes", "persistentvolume"), &["pv"], Stores).cluster_scoped().with_status(),
    kind(CORE, "PersistentVolumeClaim", ("persistentvolumeclaims", "persistentvolumeclaim"), &["pvc"], Stores).with_status(),
    kind(CORE, "ReplicationController", ("replicationcontrollers", "replicationcontroller"), &["rc"], Analyses).with_status().with_scale().in_all(),
    kind(CORE, "ResourceQuota", ("resourcequotas", "resourcequota"), &["quota"], Stores).with_status(),
    kind(CORE, "Secret", ("secrets", "secret"), &[], Stores),
    kind(CORE, "ServiceAccount", ("serviceaccounts", "serviceaccount"), &["sa"], Stores),
    kind(APPS, "Deployment", ("deployments", "deployment"), &["deploy"], Acts).with_status().with_scale().in_all(),
    kind(APPS, "ReplicaSet", ("replicasets", "replicaset"), &["rs"], Acts).with_status().with_scale().in_all(),
    kind(APPS, "StatefulSet", ("statefulsets", "statefulset"), &["sts"], Acts).with_status().with_scale().in_all(),
    kind(APPS, "DaemonSet", ("daemonsets", "daemonset"), &["ds"], Acts).with_status().in_all(),
    kind(APPS, "ControllerRevision", ("controllerrevisions", "controllerrevision"), &[], Stores),
    kind(BATCH, "Job", ("jobs", "job"), &[], Acts).with_status().in_all(),
    kind(BATCH, "CronJob", ("cronjobs", "cronjob"), &["cj"], Acts).with_status().in_all(),
    kind(NET, "NetworkPolicy", ("networkpolicies", "networkpolicy"), &["netpol"], Acts),
    kind(("policy.networking.k8s.io", "v1alpha2"), "ClusterNetworkPolicy", ("clusternetworkpolicies", "clusternetworkpolicy"), &["cnp"], Acts).cluster_scoped().with_status(),
    kind(NET, "Ingress", ("ingresses", "ingress"), &["ing"], Stores).with_status(),
    kind(NET, "IngressClass", ("ingressclasses", "ingressclass"), &[], Stores).cluster_scoped(),
    kind(("discovery.k8s.io", "v1"), "EndpointSlice", ("endpointslices", "endpointslice"), &[], Acts),
    kind(("policy", "v1"), "PodDisruptionBudget", ("poddisruptionbudgets", "poddisruptionbudget"), &["pdb"], Stores).with_status(),
    kind(("autoscaling", "v2"), "HorizontalPodAutoscaler", ("horizontalpodautoscalers", "horizontalpodautoscaler"), &["hpa"], Stores).with_status().in_all(),
    kind(("autoscaling", "v1"), "HorizontalPodAutoscaler", ("horizontalpodautoscalers", "horizontalpodautoscaler"), &["hpa"], Stores).with_status().in_all(),
    kind(RBAC, "Role", ("roles", "role"), &[], Stores),
    kind(RBAC, "RoleBinding", ("rolebindings", "rolebinding"), &[], Stores),
    kind(RBAC, "ClusterRole", ("clusterroles", "clusterrole"), &[], Stores).cluster_scoped(),
    kind(RBAC, "ClusterRoleBinding", ("clusterrolebindings", "clusterrolebinding"), &[], Stores).cluster_scoped(),
    kind(("coordination.k8s.io", "v1"), "Lease", ("leases", "lease"), &[], Stores),
    kind(("scheduling.k8s.io", "v1"), "PriorityClass", ("priorityclasses", "priorityclass"), &["pc"], Stores).cluster_scoped(),
    kind(("apiextensions.k8s.io", "v1"), "CustomResourceDefinition", ("customresourcedefinitions", "customresourcedefinition"), &["crd", "crds"], Acts).cluster_scoped().with_status(),
    kind(("storage.k8s.io", "v1"), "StorageClass", ("storageclasses", "storageclass"), &["sc"], Stores).cluster_scoped(),
];

/// The kind of an `apiVersion` and `kind`.
pub fn find(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    KINDS.iter().find(|k| k.group == group && k.version == version && k.kind == kind)
}

/// The kind behind a URL's group, version and resource.
pub fn find_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind of an object, by its `apiVersion` and `kind`.
pub fn of(object: &serde_json::Value) -> Option<&'static Kind> {
    find(object.get("apiVersion")?.as_str()?, object.get("kind")?.as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_is_listed_twice() {
        for (i, a) in KINDS.iter().enumerate() {
            assert!(
                KINDS[i + 1..].iter().all(|b| (a.group, a.version, a.kind) != (b.group, b.version, b.kind)),
                "{a:?}"
            );
        }
    }

    #[test]
    fn kinds_are_found_by_api_version_and_by_url() {
        assert_eq!(find("apps/v1", "Deployment").map(|k| k.plural), Some("deployments"));
        assert_eq!(find("v1", "Pod").map(Kind::api_version), Some("v1".into()));
        assert_eq!(find("apps/v1", "Pod"), None);
        assert_eq!(
            find_plural("networking.k8s.io", "v1", "networkpolicies").map(|k| k.kind),
            Some("NetworkPolicy")
        );
    }
}
