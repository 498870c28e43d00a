//! `configMapGenerator` and `secretGenerator`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kilter_model::Origin;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::fields::{Generator, GeneratorOptions};
use super::file::Field;
use super::resource::Resource;
use crate::Error;

/// Runs the generators of one field; `kind` is ConfigMap or Secret.
pub(super) fn run(
    context: &Context,
    resources: &mut Vec<Resource>,
    kind: &'static str,
    generators: &Field<Vec<Generator>>,
    global: &GeneratorOptions,
) -> Result<(), Error> {
    let field = if kind == "Secret" { "secretGenerator" } else { "configMapGenerator" };
    for generator in &generators.value {
        let fail = |message: String| context.error(generators.line, field, message);
        if generator.name.is_empty() {
            return Err(fail("a generator needs a name".into()));
        }
        let made = Making { context, line: generators.line, field, kind }.make(generator, global)?;
        let existing = resources.iter().position(|r| r.ids().any(|id| id.same(&made.id())));
        match (generator.behavior.as_str(), existing) {
            ("" | "create", None) => resources.push(made),
            ("" | "create", Some(_)) => {
                return Err(fail(format!(
                    "{} exists already; behavior merge or replace changes it",
                    made.id()
                )));
            }
            ("merge", Some(at)) => merge(&mut resources[at], made),
            ("replace", Some(at)) => replace(&mut resources[at], made),
            ("merge" | "replace", None) => {
                return Err(fail(format!("{} is not there to {}", made.id(), generator.behavior)));
            }
            (other, _) => return Err(fail(format!("behavior {other:?}: create, merge or replace"))),
        }
    }
    Ok(())
}

/// The data of a generated object: text, or bytes that are none.
enum Datum {
    Text(String),
    Bytes(Vec<u8>),
}

struct Making<'a> {
    context: &'a Context,
    line: u64,
    field: &'static str,
    kind: &'static str,
}

impl Making<'_> {
    fn make(&self, generator: &Generator, global: &GeneratorOptions) -> Result<Resource, Error> {
        let mut metadata = json!({"name": generator.name});
        if !generator.namespace.is_empty() {
            metadata["namespace"] = generator.namespace.as_str().into();
        }
        let options = &generator.options;
        for (name, global, own) in [
            ("labels", &global.labels, &options.labels),
            ("annotations", &global.annotations, &options.annotations),
        ] {
            let all: BTreeMap<_, _> = global.iter().chain(own).collect();
            if !all.is_empty() {
                metadata[name] = json!(all);
            }
        }
        let mut value = json!({"apiVersion": "v1", "kind": self.kind, "metadata": metadata});
        if global.immutable || options.immutable {
            value["immutable"] = true.into();
        }
        if self.kind == "Secret" {
            let given = generator.type_.as_str();
            value["type"] = if given.is_empty() { "Opaque" } else { given }.into();
        } else if !generator.type_.is_empty() {
            return Err(self.error("type: only Secrets have one".into()));
        }
        self.fill(&mut value, self.data(generator)?);
        let path = self.context.file.display().to_string().into();
        let line = u32::try_from(self.line).unwrap_or(u32::MAX);
        let mut made = Resource::new(crate::Object { value, origin: Origin::File { path, line } });
        made.hashed = !(global.disable_name_suffix_hash || options.disable_name_suffix_hash);
        Ok(made)
    }

    fn error(&self, message: String) -> Error {
        self.context.error(self.line, self.field, message)
    }

    /// Puts data where the kind keeps it: Secrets in base64, ConfigMaps text as text.
    fn fill(&self, value: &mut Value, data: BTreeMap<String, Datum>) {
        for (key, datum) in data {
            let (place, text) = match (self.kind, datum) {
                ("Secret", Datum::Text(text)) => ("data", STANDARD.encode(text)),
                ("Secret", Datum::Bytes(bytes)) => ("data", STANDARD.encode(bytes)),
                (_, Datum::Text(text)) => ("data", text),
                (_, Datum::Bytes(bytes)) => ("binaryData", STANDARD.encode(bytes)),
            };
            value[place][key] = text.into();
        }
    }

    fn data(&self, generator: &Generator) -> Result<BTreeMap<String, Datum>, Error> {
        let mut data = BTreeMap::new();
        let mut add = |key: String, datum| match data.insert(key.clone(), datum) {
            None => Ok(()),
            Some(_) => Err(self.error(format!("{}: the key {key:?} is given twice", generator.name))),
        };
        let envs = generator.envs.iter().chain(Some(&generator.env).filter(|e| !e.is_empty()));
        for name in envs {
            for (key, value) in self.variables(name)? {
                add(key, Datum::Text(value))?;
            }
        }
        for entry in &generator.literals {
            let Some((key, value)) = entry.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(self.error(format!("literals: {entry:?} should be key=value")));
            };
            add(key.to_owned(), Datum::Text(unquoted(value).to_owned()))?;
        }
        for entry in &generator.files {
            let (key, path) = match entry.split_once('=') {
                Some((key, path)) => (key, path),
                None => (entry.rsplit('/').next().unwrap_or_default(), entry.as_str()),
            };
            if key.is_empty() || path.is_empty() {
                return Err(self.error(format!("files: {entry:?} should be a path, or key=path")));
            }
            let (_, bytes) = self.context.read(self.line, self.field, path)?;
            let datum = String::from_utf8(bytes).map_or_else(|e| Datum::Bytes(e.into_bytes()), Datum::Text);
            add(key.to_owned(), datum)?;
        }
        Ok(data)
    }

    /// `KEY=VALUE` lines. A key alone would take its value from the environment of whoever builds,
    /// which would make the result depend on it: refused.
    fn variables(&self, name: &str) -> Result<Vec<(String, String)>, Error> {
        let (path, bytes) = self.context.read(self.line, self.field, name)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| self.error(format!("envs: {} is not UTF-8 text", path.display())))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut found = vec![];
        for (i, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=') {
                Some((key, value)) if !key.is_empty() => found.push((key.to_owned(), value.to_owned())),
                _ => {
                    let at = format!("{}:{}", path.display(), i + 1);
                    return Err(self.error(format!("envs: {at}: {line:?} should be KEY=VALUE")));
                }
            }
        }
        Ok(found)
    }
}

/// A literal without the quotes around it.
fn unquoted(value: &str) -> &str {
    let quoted = |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    if quoted('"') || quoted('\'') { &value[1..value.len() - 1] } else { value }
}

/// `behavior: merge`: the new data over the old, which keeps its name.
fn merge(existing: &mut Resource, made: Resource) {
    for place in ["data", "binaryData"] {
        let Some(Value::Object(new)) = made.value.get(place).cloned() else { continue };
        let old = existing
            .value
            .as_object_mut()
            .map(|o| o.entry(place).or_insert_with(|| Value::Object(Map::new())));
        if let Some(Value::Object(old)) = old {
            old.extend(new);
        }
    }
    settle(existing, &made);
}

/// `behavior: replace`: the new data instead of the old.
fn replace(existing: &mut Resource, made: Resource) {
    for place in ["data", "binaryData"] {
        if let Some(old) = existing.value.as_object_mut() {
            old.remove(place);
            old.extend(made.value.get(place).map(|new| (place.to_owned(), new.clone())));
        }
    }
    settle(existing, &made);
}

fn settle(existing: &mut Resource, made: &Resource) {
    for name in ["labels", "annotations"] {
        if let Some(Value::Object(new)) = made.value.pointer(&format!("/metadata/{name}")).cloned()
            && let Value::Object(old) =
                existing.metadata().entry(name).or_insert_with(|| Value::Object(Map::new()))
        {
            old.extend(new);
        }
    }
    existing.hashed = made.hashed;
}
