use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use kilter_model::Origin;
use kilter_objects::custom::Definitions;
use kilter_objects::{kinds, list_items};
use serde_json::Value;

use crate::error::Invalid;
use crate::merge::{Merged, title};
use crate::{Error, Lines, Object, Source, kustomize, yaml};

/// How to load.
#[derive(Debug, Clone)]
pub struct Options {
    /// The namespace of namespaced objects that name none.
    pub namespace: String,
    /// Whether kinds that Kilter does not support are an error instead of a warning.
    pub strict: bool,
    /// Whether objects that the API server would refuse are a warning instead of an error: for
    /// analysis of what never was applied.
    pub tolerant: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { namespace: "default".into(), strict: false, tolerant: false }
    }
}

/// What the sources declare.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Objects of supported kinds, valid, in the order of declaration.
    pub objects: Vec<Object>,
    /// Objects of kinds that Kilter does not support: left out above.
    pub unsupported: Vec<Object>,
    /// What the person who named the sources should know.
    pub warnings: Vec<Warning>,
}

/// Something that is not an error, but not as it should be either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A later source declares an object again; the later declaration is in force.
    Replaced {
        /// `Kind namespace/name`.
        object: String,
        /// Where it was declared first.
        first: Origin,
        /// The declaration in force.
        second: Origin,
    },
    /// Kinds that Kilter does not support and how often each occurs.
    UnsupportedKinds(BTreeMap<String, usize>),
    /// An object that the API server would refuse, where the caller tolerates such.
    Invalid(Invalid),
    /// A field that the kind does not have; Kubernetes drops it.
    UnknownField {
        /// `Kind namespace/name`.
        object: String,
        /// Its path.
        field: String,
        /// Where it stands.
        origin: Origin,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Replaced { object, first, second } => {
                write!(f, "{object} at {second} replaces the one at {first}")
            }
            Warning::UnsupportedKinds(kinds) => f.write_str(&kinds_text(kinds)),
            Warning::Invalid(invalid) => write!(f, "{invalid}"),
            Warning::UnknownField { object, field, origin } => {
                write!(f, "{origin}: {object}: unknown field {field:?}, ignored")
            }
        }
    }
}

fn kinds_text(kinds: &BTreeMap<String, usize>) -> String {
    let each: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
    format!("left out, for Kilter does not support these kinds: {}", each.join(", "))
}

/// Loads sources in order. A later object replaces an earlier one of the same group, kind,
/// namespace and name, with a warning.
///
/// # Errors
/// The first source that cannot be read; else all objects that the API server would refuse.
pub fn load(sources: &[Source], options: &Options) -> Result<Loaded, Error> {
    let mut merged = Merged::default();
    let mut warnings = vec![];
    for source in sources {
        merged.next_source();
        if let Some(file) = kustomization(source) {
            match kustomize::build(&file, merged.objects())? {
                kustomize::Built::Objects(objects) => add(&mut merged, objects, options, &mut warnings)?,
                kustomize::Built::Changed(objects) => {
                    merged = Merged::default();
                    add(&mut merged, objects, options, &mut warnings)?;
                }
            }
        } else {
            add(&mut merged, read(source)?, options, &mut warnings)?;
        }
    }
    finish(merged.into_objects(), warnings, options)
}

fn kustomization(source: &Source) -> Option<PathBuf> {
    match source {
        Source::Path(path) => kustomize::find(path),
        Source::Stdin | Source::Text { .. } => None,
    }
}

fn add(
    merged: &mut Merged,
    objects: Vec<Object>,
    options: &Options,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    for object in objects {
        merged.add(in_namespace(object, &options.namespace), warnings)?;
    }
    Ok(())
}

fn read(source: &Source) -> Result<Vec<Object>, Error> {
    match source {
        Source::Path(path) if path.is_dir() => directory(path),
        Source::Path(path) => file(path),
        Source::Text { name, text } => parse(name, text.as_bytes()),
        Source::Stdin => {
            let mut bytes = vec![];
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|source| Error::Read { path: "<stdin>".into(), source })?;
            parse("<stdin>", &bytes)
        }
    }
}

/// The manifests of a directory by name, subdirectories not searched, as kubectl does.
fn directory(path: &Path) -> Result<Vec<Object>, Error> {
    let files = manifests_in(path)?;
    if files.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    let mut objects = vec![];
    for path in files {
        objects.extend(file(&path)?);
    }
    Ok(objects)
}

fn manifests_in(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut files = vec![];
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let manifest = path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|x| e == *x));
        if manifest && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn file(path: &Path) -> Result<Vec<Object>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &bytes)
}

/// The objects of a file's text; the items of Lists stand for themselves.
pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Vec<Object>, Error> {
    let mut objects = vec![];
    for document in yaml::documents(path, bytes)? {
        flatten(document.value, &Origin::File { path: path.into(), line: document.line }, &mut objects)?;
    }
    Ok(objects)
}

fn flatten(value: Value, origin: &Origin, objects: &mut Vec<Object>) -> Result<(), Error> {
    if let Some(items) = list_items(&value) {
        for item in items {
            flatten(item, origin, objects)?;
        }
        return Ok(());
    }
    let refuse = |message: &str| Error::NotAnObject { origin: origin.clone(), message: message.into() };
    if !value.is_object() {
        return Err(refuse("the document is not a mapping"));
    }
    for field in ["apiVersion", "kind"] {
        match value.get(field) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return Err(refuse(&format!("{field} is not a name"))),
            None => return Err(refuse(&format!("it has no {field}"))),
        }
    }
    objects.push(Object { value, origin: origin.clone() });
    Ok(())
}

/// Fills in the namespace of a namespaced object, and removes one that has no meaning. Objects of
/// kinds unknown here stay as they are.
fn in_namespace(mut object: Object, default: &str) -> Object {
    if let Some(kind) = kinds::of(&object.value) {
        scope(&mut object, kind.namespaced, default);
    }
    object
}

fn scope(object: &mut Object, namespaced: bool, default: &str) {
    if let Some(metadata) = object.value.get_mut("metadata").and_then(Value::as_object_mut) {
        // What is no name at all is left for validation to refuse.
        let named = match metadata.get("namespace") {
            None | Some(Value::Null) => false,
            Some(name) => name.as_str() != Some(""),
        };
        if !namespaced {
            metadata.remove("namespace");
        } else if !named {
            metadata.insert("namespace".into(), default.into());
        }
    }
}

fn finish(objects: Vec<Object>, mut warnings: Vec<Warning>, options: &Options) -> Result<Loaded, Error> {
    let definitions = Definitions::of(objects.iter().map(|o| &o.value));
    let (mut objects, unsupported): (Vec<_>, Vec<_>) = objects
        .into_iter()
        .partition(|o| kinds::of(&o.value).is_some() || definitions.of_object(&o.value).is_some());
    for object in &mut objects {
        if let Some((_, namespaced)) = definitions.of_object(&object.value) {
            scope(object, namespaced, &options.namespace);
        }
    }
    let mut lines = Lines::default();
    let invalid: Vec<Invalid> =
        objects.iter().filter_map(|it| invalid(it, &definitions, &mut lines)).collect();
    if !invalid.is_empty() && !options.tolerant {
        return Err(Error::Invalid(invalid));
    }
    warnings.extend(invalid.into_iter().map(Warning::Invalid));
    if !unsupported.is_empty() {
        let kinds = count(&unsupported);
        if options.strict {
            return Err(Error::UnsupportedKinds(kinds_text(&kinds)));
        }
        warnings.push(Warning::UnsupportedKinds(kinds));
    }
    for object in &objects {
        let mut value = object.value.clone();
        let unknown = match definitions.of_object(&value) {
            Some((schema, _)) => schema.prune(&mut value),
            None => {
                kilter_objects::default(&mut value);
                kilter_objects::unknown_fields(&value)
            }
        };
        warnings.extend(unknown.into_iter().map(|field| {
            let origin = lines.of_field(&object.value, &object.origin, &field);
            Warning::UnknownField { object: title(&object.value), field, origin }
        }));
    }
    Ok(Loaded { objects, unsupported, warnings })
}

fn invalid(object: &Object, definitions: &Definitions, lines: &mut Lines) -> Option<Invalid> {
    let mut value = object.value.clone();
    let faults = match definitions.of_object(&value) {
        Some((schema, _)) => {
            schema.default(&mut value);
            schema.validate(&value)
        }
        None => {
            kilter_objects::default(&mut value);
            kilter_objects::validate(&value)
        }
    };
    let faults = faults.into_iter();
    let placed = faults.map(|fault| (lines.of_field(&object.value, &object.origin, &fault.field), fault));
    let faults: Vec<_> = placed.collect();
    (!faults.is_empty()).then(|| Invalid { object: title(&object.value), faults })
}

fn count(objects: &[Object]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for object in objects {
        let text = |key| object.value.get(key).and_then(Value::as_str).unwrap_or_default();
        *counts.entry(format!("{} {}", text("apiVersion"), text("kind"))).or_insert(0) += 1;
    }
    counts
}
