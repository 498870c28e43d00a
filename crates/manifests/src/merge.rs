//! Objects of several sources, later ones over earlier ones.

use std::collections::HashMap;

use kilter_model::Origin;
use kilter_objects::value::{kind, name, namespace};
use serde_json::Value;

use crate::load::Warning;
use crate::{Error, Object};

/// What makes two declarations the same object. The version is not part of it: `autoscaling/v1`
/// and `v2` are two views of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    group: String,
    kind: String,
    namespace: String,
    name: String,
}

impl Identity {
    pub fn of(value: &Value) -> Self {
        let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        Self {
            group: api_version.split_once('/').map_or("", |(group, _)| group).to_owned(),
            kind: kind(value).to_owned(),
            namespace: namespace(value).to_owned(),
            name: name(value).to_owned(),
        }
    }
}

/// `Kind namespace/name`, for messages.
pub(crate) fn title(value: &Value) -> String {
    match namespace(value) {
        "" => format!("{} {}", kind(value), name(value)),
        namespace => format!("{} {namespace}/{}", kind(value), name(value)),
    }
}

/// Objects in the order in which they were first declared.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    objects: Vec<Object>,
    index: HashMap<Identity, usize>,
    /// The first object of the source being added: a file named as two sources is read twice, and
    /// that is no duplicate within the file.
    source_start: usize,
}

impl Merged {
    /// From here on, objects are those of the next source.
    pub fn next_source(&mut self) {
        self.source_start = self.objects.len();
    }

    /// Adds an object; one of the same identity is replaced in its place, with a warning.
    pub fn add(&mut self, object: Object, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let identity = Identity::of(&object.value);
        // Without a name (generateName) no two declarations are the same object.
        let at = if identity.name.is_empty() { None } else { self.index.get(&identity).copied() };
        let Some(at) = at else {
            self.index.insert(identity, self.objects.len());
            self.objects.push(object);
            return Ok(());
        };
        let first = &self.objects[at];
        if at >= self.source_start && same_file(&first.origin, &object.origin) {
            return Err(Error::Duplicate {
                object: title(&object.value),
                first: first.origin.clone(),
                second: object.origin,
            });
        }
        warnings.push(Warning::Replaced {
            object: title(&object.value),
            first: first.origin.clone(),
            second: object.origin.clone(),
        });
        self.objects[at] = object;
        Ok(())
    }

    /// The objects so far, in order.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// All objects, in order.
    pub fn into_objects(self) -> Vec<Object> {
        self.objects
    }
}

fn same_file(a: &Origin, b: &Origin) -> bool {
    matches!((a, b), (Origin::File { path: a, .. }, Origin::File { path: b, .. }) if a == b)
}
