//! The published list: what this server serves. `objects` says which kinds exist; here is what only
//! an API server knows about them.

use std::sync::OnceLock;

use kilter_objects::EVENT_VIEW;
use kilter_objects::kinds::{self, KINDS, Kind};
use kilter_objects::schema::{self, Type};

use crate::custom::Custom;

/// A resource: a collection of objects of one kind, at one URL.
#[derive(Debug)]
pub struct Resource {
    /// Its kind, names and scope.
    pub kind: &'static Kind,
    /// Whether `metadata.generation` counts the changes of what is wanted.
    pub generation: bool,
    /// Whether an update may leave out `metadata.resourceVersion`.
    pub unconditional_update: bool,
    /// Dotted paths that field selectors may name, besides `metadata.name` and `metadata.namespace`.
    pub fields: &'static [&'static str],
    /// Where its objects are kept: itself, or the resource of which it is another version.
    pub stored_as: (&'static str, &'static str),
    /// Subresources beyond `status` and `scale`.
    pub subresources: &'static [Subresource],
    /// What its definition says, where it is a custom resource.
    pub custom: Option<Custom>,
}

/// A subresource with a handler of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The last part of the URL.
    pub name: &'static str,
    /// Group and version of what is sent and answered.
    pub api: (&'static str, &'static str),
    /// Its kind.
    pub kind: &'static str,
    /// The verbs, as discovery lists them.
    pub verbs: &'static [&'static str],
}

const POD_SUBRESOURCES: &[Subresource] = &[
    Subresource { name: "attach", api: ("", "v1"), kind: "PodAttachOptions", verbs: &["create", "get"] },
    Subresource { name: "binding", api: ("", "v1"), kind: "Binding", verbs: &["create"] },
    Subresource { name: "eviction", api: ("policy", "v1"), kind: "Eviction", verbs: &["create"] },
    Subresource { name: "exec", api: ("", "v1"), kind: "PodExecOptions", verbs: &["create", "get"] },
    Subresource { name: "log", api: ("", "v1"), kind: "Pod", verbs: &["get"] },
    Subresource { name: "portforward", api: ("", "v1"), kind: "PodPortForwardOptions", verbs: &["create", "get"] },
];

const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "status.phase",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.podIP",
    "status.nominatedNodeName",
];

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source.component",
    "type",
];

/// The same fields in the same order, under the names of `events.k8s.io/v1`.
const EVENT_VIEW_FIELDS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "deprecatedSource.component",
    "type",
];

/// Kinds that `objects` reads from files but that this server does not serve: a second version of
/// a kind needs exact conversion.
fn served(kind: &Kind) -> bool {
    (kind.group, kind.version) != ("autoscaling", "v1")
}

fn describe(kind: &'static Kind) -> Resource {
    let generation = !matches!(
        kind.kind,
        "Namespace"
            | "Node"
            | "Service"
            | "Event"
            | "ConfigMap"
            | "Endpoints"
            | "LimitRange"
            | "PersistentVolume"
            | "PersistentVolumeClaim"
            | "ResourceQuota"
            | "Secret"
            | "ServiceAccount"
            | "ControllerRevision"
            | "Role"
            | "RoleBinding"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "Lease"
            | "StorageClass"
            | "HorizontalPodAutoscaler"
    );
    let fields: &[&str] = match (kind.group, kind.kind) {
        ("", "Pod") => POD_FIELDS,
        ("", "Event") => EVENT_FIELDS,
        ("events.k8s.io", _) => EVENT_VIEW_FIELDS,
        ("", "Namespace") => &["status.phase"],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("apps", "ReplicaSet") | ("", "ReplicationController") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        _ => &[],
    };
    let stored_as = if kind.group == "events.k8s.io" { ("", "events") } else { (kind.group, kind.plural) };
    Resource {
        kind,
        generation,
        unconditional_update: kind.kind != "Lease",
        fields,
        stored_as,
        subresources: if kind.kind == "Pod" { POD_SUBRESOURCES } else { &[] },
        custom: None,
    }
}

impl Resource {
    /// All that are served, in the order of discovery.
    pub fn all() -> &'static [Resource] {
        static ALL: OnceLock<Vec<Resource>> = OnceLock::new();
        ALL.get_or_init(|| KINDS.iter().filter(|k| served(k)).chain([&EVENT_VIEW]).map(describe).collect())
    }

    /// The resource at a URL.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        Self::all()
            .iter()
            .find(|r| r.kind.group == group && r.kind.version == version && r.kind.plural == plural)
    }

    /// The resource of a kind, as an ownerReference names it.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
        let kind = kinds::find(api_version, kind)?;
        Self::find(kind.group, kind.version, kind.plural)
    }

    /// A resource of the core group.
    ///
    /// # Panics
    /// When there is none: the names are literals in this crate.
    pub(crate) fn core(plural: &'static str) -> &'static Resource {
        Self::find("", "v1", plural).unwrap_or_else(|| panic!("no core resource {plural}"))
    }

    /// `deployments.apps`, `pods`: the name in messages.
    pub fn group_resource(&self) -> String {
        match self.kind.group {
            "" => self.kind.plural.to_owned(),
            group => format!("{}.{group}", self.kind.plural),
        }
    }

    /// Whether objects are kept as it shows them, whatever version they were written in.
    pub fn is_storage(&self) -> bool {
        match &self.custom {
            Some(custom) => custom.now().only,
            None => self.stored_as == (self.kind.group, self.kind.plural),
        }
    }

    /// The kind of a list.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) => custom.now().list_kind.clone(),
            None => format!("{}List", self.kind.kind),
        }
    }

    /// Calls `use_type` with how its objects merge.
    pub(crate) fn with_type<T>(&self, use_type: impl FnOnce(Type<'_>) -> T) -> T {
        match &self.custom {
            Some(custom) => use_type(custom.now().structural.merging()),
            None => use_type(schema::of(self.kind)),
        }
    }

    /// Where a selectable field is in the index of an object; `None` for a field that is not selectable.
    pub fn field_index(&self, field: &str) -> Option<usize> {
        let alias = match (self.kind.kind, field) {
            ("Event", "source") => "source.component",
            (_, other) => other,
        };
        self.fields.iter().position(|f| *f == alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_a_place_to_be_kept() {
        for resource in Resource::all() {
            let (group, plural) = resource.stored_as;
            assert!(
                Resource::all()
                    .iter()
                    .any(|r| r.is_storage() && r.kind.group == group && r.kind.plural == plural),
                "{resource:?}"
            );
        }
    }

    #[test]
    fn both_versions_of_event_select_on_the_same_index() {
        let core = Resource::core("events");
        let view = Resource::find("events.k8s.io", "v1", "events").expect("served");
        assert_eq!(core.field_index("involvedObject.name"), view.field_index("regarding.name"));
        assert_eq!(core.fields.len(), view.fields.len());
    }
}
