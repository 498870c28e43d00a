use kilter_model::Origin;
use kilter_objects::{kinds, value};
use serde_json::{Map, Value};

use crate::Object;

/// An object on its way through kustomizations.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub value: Value,
    pub origin: Origin,
    /// The names it had before, first to last: others still refer to it by those.
    pub former: Vec<Id>,
    /// Whether its name gets a hash of its content (generated ones).
    pub hashed: bool,
    /// Prefixes and suffixes put on its name, innermost first: what tells twins apart that two
    /// overlays made of one base.
    pub affixes: Vec<(String, String)>,
}

/// What identifies an object in a kustomization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id {
    pub group: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl Id {
    pub fn of(object: &Value) -> Self {
        let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        Self {
            group: api_version.split_once('/').map_or("", |(group, _)| group).to_owned(),
            kind: value::kind(object).to_owned(),
            namespace: value::namespace(object).to_owned(),
            name: value::name(object).to_owned(),
        }
    }

    /// The namespace, `default` where none is named.
    pub fn effective_namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    /// Whether two names are of one object; no namespace is `default`.
    pub fn same(&self, other: &Id) -> bool {
        self.group == other.group
            && self.kind == other.kind
            && self.name == other.name
            && self.effective_namespace() == other.effective_namespace()
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        if self.namespace.is_empty() { Ok(()) } else { write!(f, " in namespace {}", self.namespace) }
    }
}

impl Resource {
    pub fn new(object: Object) -> Self {
        Self { value: object.value, origin: object.origin, former: vec![], hashed: false, affixes: vec![] }
    }

    pub fn into_object(self) -> Object {
        Object { value: self.value, origin: self.origin }
    }

    pub fn id(&self) -> Id {
        Id::of(&self.value)
    }

    /// The name it has and those it had, first to last.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.former.iter().cloned().chain([self.id()])
    }

    pub fn kind(&self) -> &str {
        value::kind(&self.value)
    }

    pub fn name(&self) -> &str {
        value::name(&self.value)
    }

    pub fn group_version(&self) -> (String, String) {
        let api_version = self.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        (group.to_owned(), version.to_owned())
    }

    /// Whether objects of its kind live in namespaces. Kinds unknown here are taken as namespaced,
    /// as kustomize does.
    pub fn namespaced(&self) -> bool {
        const CLUSTER: &[(&str, &str)] = &[
            ("admissionregistration.k8s.io", ""),
            ("apiextensions.k8s.io", ""),
            ("apiregistration.k8s.io", ""),
            ("certificates.k8s.io", ""),
            ("flowcontrol.apiserver.k8s.io", ""),
            ("node.k8s.io", ""),
            ("storage.k8s.io", "CSIDriver"),
            ("storage.k8s.io", "CSINode"),
            ("storage.k8s.io", "VolumeAttachment"),
        ];
        if let Some(kind) = kinds::of(&self.value) {
            return kind.namespaced;
        }
        let (group, _) = self.group_version();
        let known = kinds::KINDS.iter().find(|k| k.group == group && k.kind == self.kind());
        let cluster = CLUSTER.iter().any(|(g, k)| *g == group && (k.is_empty() || *k == self.kind()));
        known.map_or(!cluster, |k| k.namespaced)
    }

    /// Changes name or namespace, remembering the present ones.
    pub fn rename(&mut self, key: &str, value: &str) {
        let before = self.id();
        self.metadata().insert(key.to_owned(), value.into());
        if self.id() != before {
            self.former.push(before);
        }
    }

    /// `metadata`, made when absent.
    pub fn metadata(&mut self) -> &mut Map<String, Value> {
        if !self.value.get("metadata").is_some_and(Value::is_object) {
            self.value["metadata"] = Value::Object(Map::new());
        }
        self.value["metadata"].as_object_mut().expect("made above")
    }
}
