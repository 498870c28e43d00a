//! Custom resources: a CustomResourceDefinition is served from the write that stores it on.

mod catalogue;
mod cleanup;
mod definition;

use std::sync::{Arc, PoisonError, RwLock};

use kilter_objects::custom::{Path, Structural};
use serde_json::Value;

pub use catalogue::Catalogue;
pub use cleanup::run;
pub use definition::{accept, warnings};

/// Where definitions are kept.
pub const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
/// On a definition until the last object of its kind is gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What a resource's definition says now. The names of a resource never change (another name is
/// another resource); all that may change is here.
#[derive(Debug)]
pub struct Custom(RwLock<Arc<Version>>);

impl Custom {
    fn new(version: Version) -> Self {
        Self(RwLock::new(Arc::new(version)))
    }

    /// The definition as it is now.
    pub fn now(&self) -> Arc<Version> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, version: Version) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(version);
    }
}

/// One version of a custom resource.
#[derive(Debug)]
pub struct Version {
    /// Its schema.
    pub structural: Structural,
    /// What `kubectl get` shows, the name left out.
    pub columns: Vec<Column>,
    /// Where its scale is, if it has one.
    pub scale: Option<Scale>,
    /// Groups of resources that kubectl knows by one name.
    pub categories: Vec<String>,
    /// The kind of a list of them.
    pub list_kind: String,
    /// The `apiVersion` under which objects are kept.
    pub stored: String,
    /// Whether there is no other version.
    pub only: bool,
    /// What writers are told of a version that is deprecated.
    pub deprecation: Option<String>,
    /// Whether the definition is being deleted.
    pub terminating: bool,
}

/// A printer column.
#[derive(Debug)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// An OpenAPI format, for clients.
    pub format: String,
    /// What it means.
    pub description: String,
    /// 0 is always shown, others with `-o wide`.
    pub priority: i64,
    /// Where its cells are.
    pub path: Path,
}

/// Where the scale subresource reads and writes.
#[derive(Debug)]
pub struct Scale {
    /// How many are wanted.
    pub spec: Path,
    /// How many there are.
    pub status: Path,
    /// By which labels they are selected, as text.
    pub selector: Option<Path>,
}

impl Version {
    /// From a definition and one of its versions, both valid.
    fn of(definition: &Value, version: &Value) -> Self {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let path = |value: &Value| Path::parse(value.as_str().unwrap_or_default()).ok();
        let versions = list(&spec["versions"]);
        let stored = versions.iter().find(|v| v["storage"] == true).map(|v| text(&v["name"])).unwrap_or_default();
        let (group, name, kind) = (text(&spec["group"]), text(&version["name"]), text(&spec["names"]["kind"]));
        let scale = &version["subresources"]["scale"];
        let told = version["deprecationWarning"].as_str().map(str::to_owned);
        let columns = list(&version["additionalPrinterColumns"]);
        let column = |c: &Value| {
            let (name, kind, format) = (text(&c["name"]), text(&c["type"]), text(&c["format"]));
            let description = text(&c["description"]);
            let priority = c["priority"].as_i64().unwrap_or(0);
            Some(Column { name, kind, format, description, priority, path: path(&c["jsonPath"])? })
        };
        Self {
            structural: Structural::new(&version["schema"]["openAPIV3Schema"]),
            columns: columns.iter().filter_map(column).collect(),
            scale: path(&scale["specReplicasPath"]).zip(path(&scale["statusReplicasPath"])).map(|(spec, status)| {
                Scale { spec, status, selector: path(&scale["labelSelectorPath"]) }
            }),
            categories: list(&spec["names"]["categories"]).iter().map(text).collect(),
            list_kind: text(&spec["names"]["listKind"]),
            stored: format!("{group}/{stored}"),
            only: versions.len() == 1,
            deprecation: (version["deprecated"] == true)
                .then(|| told.unwrap_or_else(|| format!("{group}/{name} {kind} is deprecated"))),
            terminating: crate::meta::deleting(definition),
        }
    }
}
