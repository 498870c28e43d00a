//! `patches` and their older forms.

use kilter_objects::patch::{self, strategic::Additions};
use serde_json::Value;

use super::context::Context;
use super::fields::{Json6902, Patch, PatchOptions, Target};
use super::file::Field;
use super::resource::{Id, Resource};
use super::selector::Matcher;
use crate::{Error, yaml};

/// `patches`: strategic merge or JSON patches, in the text or in a file, with or without a target.
pub(super) fn patches(
    context: &Context,
    resources: &mut Vec<Resource>,
    patches: &Field<Vec<Patch>>,
) -> Result<(), Error> {
    let patcher = Patcher { context, field: "patches", line: patches.line };
    for entry in &patches.value {
        let (name, documents) = match (&entry.path, &entry.patch) {
            (Some(path), None) => patcher.documents_of_file(path)?,
            (None, Some(text)) => patcher.documents_of_text(text)?,
            _ => return Err(patcher.error("a patch needs either path or patch")),
        };
        patcher.apply(resources, &name, documents, entry.target.as_ref(), entry.options)?;
    }
    Ok(())
}

/// `patchesStrategicMerge`: files, or patches in the text.
pub(super) fn strategic_merge(
    context: &Context,
    resources: &mut Vec<Resource>,
    patches: &Field<Vec<String>>,
) -> Result<(), Error> {
    let patcher = Patcher { context, field: "patchesStrategicMerge", line: patches.line };
    for entry in &patches.value {
        // A patch in the text has several lines; a path has one.
        let (name, documents) = if entry.contains('\n') {
            patcher.documents_of_text(entry)?
        } else {
            patcher.documents_of_file(entry)?
        };
        patcher.apply(resources, &name, documents, None, PatchOptions::default())?;
    }
    Ok(())
}

/// `patchesJson6902`: JSON patches with a target.
pub(super) fn json6902(
    context: &Context,
    resources: &mut Vec<Resource>,
    patches: &Field<Vec<Json6902>>,
) -> Result<(), Error> {
    let patcher = Patcher { context, field: "patchesJson6902", line: patches.line };
    for entry in &patches.value {
        let (name, documents) = match (&entry.path, &entry.patch) {
            (Some(path), None) => patcher.documents_of_file(path)?,
            (None, Some(text)) => patcher.documents_of_text(text)?,
            _ => return Err(patcher.error("a patch needs either path or patch")),
        };
        patcher.apply(resources, &name, documents, Some(&entry.target), PatchOptions::default())?;
    }
    Ok(())
}

struct Patcher<'a> {
    context: &'a Context,
    field: &'static str,
    line: u64,
}

impl Patcher<'_> {
    fn error(&self, message: impl Into<String>) -> Error {
        self.context.error(self.line, self.field, message)
    }

    fn documents_of_file(&self, name: &str) -> Result<(String, Vec<Value>), Error> {
        let (path, bytes) = self.context.read(self.line, self.field, name)?;
        let documents = yaml::documents(&path.display().to_string(), &bytes)?;
        Ok((path.display().to_string(), documents.into_iter().map(|d| d.value).collect()))
    }

    fn documents_of_text(&self, text: &str) -> Result<(String, Vec<Value>), Error> {
        let name = "the patch in the text";
        let documents = yaml::documents(name, text.as_bytes()).map_err(|e| self.error(e.to_string()))?;
        Ok((name.to_owned(), documents.into_iter().map(|d| d.value).collect()))
    }

    fn apply(
        &self,
        resources: &mut Vec<Resource>,
        name: &str,
        documents: Vec<Value>,
        target: Option<&Target>,
        options: PatchOptions,
    ) -> Result<(), Error> {
        if let [operations @ Value::Array(_)] = documents.as_slice() {
            let Some(target) = target else {
                return Err(self.error(format!("{name} is a JSON patch and needs a target")));
            };
            return self.operations(resources, name, operations, target);
        }
        if documents.len() > 1 && target.is_some() {
            return Err(self.error(format!("{name} has several patches, which cannot share a target")));
        }
        for patch in &documents {
            if !patch.is_object() {
                return Err(self.error(format!("{name} is neither a strategic merge patch nor a JSON patch")));
            }
            let chosen = match target {
                Some(target) => self.select(resources, target)?,
                None => vec![self.find(resources, name, patch)?],
            };
            for at in chosen {
                self.strategic(&mut resources[at], name, patch, options)?;
            }
        }
        // What a patch deleted as a whole.
        resources.retain(|r| r.value.as_object().is_some_and(|fields| !fields.is_empty()));
        Ok(())
    }

    fn operations(
        &self,
        resources: &mut [Resource],
        name: &str,
        operations: &Value,
        target: &Target,
    ) -> Result<(), Error> {
        for at in self.select(resources, target)? {
            let resource = &mut resources[at];
            let before = resource.id();
            patch::json(&mut resource.value, operations)
                .map_err(|e| self.error(format!("{name}: {before}: {e}")))?;
            if !resource.value.is_object() {
                return Err(self.error(format!("{name}: {before}: what remains is no object")));
            }
            if resource.id() != before {
                resource.former.push(before);
            }
        }
        Ok(())
    }

    fn select(&self, resources: &[Resource], target: &Target) -> Result<Vec<usize>, Error> {
        let matcher = Matcher::new(target).map_err(|e| self.error(format!("target: {e}")))?;
        let matching = resources.iter().enumerate().filter(|(_, r)| matcher.matches(r));
        Ok(matching.map(|(at, _)| at).collect())
    }

    /// The resource that a strategic merge patch without target names.
    fn find(&self, resources: &[Resource], name: &str, patch: &Value) -> Result<usize, Error> {
        let id = Id::of(patch);
        if id.kind.is_empty() || id.name.is_empty() {
            return Err(self.error(format!("{name} has neither a target nor kind and name of its own")));
        }
        let mut matching = resources.iter().enumerate().filter(|(_, r)| r.ids().any(|other| other.same(&id)));
        match (matching.next(), matching.next()) {
            (Some((at, _)), None) => Ok(at),
            (None, _) if resources.is_empty() => Err(self.error(format!(
                "{name} is for {id}, and there is nothing yet; a Component applies to the sources before it"
            ))),
            (None, _) => Err(self.error(format!("{name} is for {id}, which is not there"))),
            (Some(_), Some(_)) => Err(self.error(format!("{name} is for {id}, of which there are several"))),
        }
    }

    fn strategic(
        &self,
        resource: &mut Resource,
        name: &str,
        patch: &Value,
        options: PatchOptions,
    ) -> Result<(), Error> {
        let before = resource.id();
        if patch.get("$patch").is_some_and(|p| p == "delete") {
            resource.value = Value::Object(serde_json::Map::new());
            return Ok(());
        }
        patch::strategic::apply_with(&mut resource.value, patch, Additions::First)
            .map_err(|e| self.error(format!("{name}: {before}: {e}")))?;
        if !options.allow_kind_change {
            resource.value["kind"] = before.kind.as_str().into();
        }
        if !options.allow_name_change {
            resource.metadata().insert("name".into(), before.name.as_str().into());
        }
        if before.namespace.is_empty() {
            resource.metadata().remove("namespace");
        } else {
            resource.metadata().insert("namespace".into(), before.namespace.as_str().into());
        }
        if resource.id() != before {
            resource.former.push(before);
        }
        Ok(())
    }
}
