use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::schema::{Structure, Type};

/// A set of fields of an object, as a tree (`metav1.FieldsV1`). A step is written as there:
/// `f:NAME` for a field, `k:{KEYS}` for an item of a list with keys, `v:VALUE` for a value of a
/// set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Whether the place itself is in the set.
    pub here: bool,
    /// What is in the set below it; no subtree is empty.
    pub below: BTreeMap<String, Fields>,
}

impl Fields {
    /// A set with only its own place.
    pub fn leaf() -> Self {
        Self { here: true, below: BTreeMap::new() }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.here && self.below.is_empty()
    }

    /// Adds a subtree, if there is anything in it.
    pub fn insert(&mut self, step: String, fields: Fields) {
        if !fields.is_empty() {
            self.below.entry(step).or_default().merge(fields);
        }
    }

    /// Adds all that is in another set.
    pub fn merge(&mut self, other: Fields) {
        self.here |= other.here;
        for (step, fields) in other.below {
            self.insert(step, fields);
        }
    }

    /// What is in this set and not in the other.
    pub fn without(&self, other: &Fields) -> Fields {
        let mut left = Fields { here: self.here && !other.here, below: BTreeMap::new() };
        for (step, fields) in &self.below {
            let fields = other.below.get(step).map_or_else(|| fields.clone(), |o| fields.without(o));
            left.insert(step.clone(), fields);
        }
        left
    }

    /// What is in both sets.
    pub fn common(&self, other: &Fields) -> Fields {
        let mut both = Fields { here: self.here && other.here, below: BTreeMap::new() };
        for (step, fields) in &self.below {
            if let Some(other) = other.below.get(step) {
                both.insert(step.clone(), fields.common(other));
            }
        }
        both
    }

    /// Takes out a subtree.
    pub fn remove(&mut self, path: &[&str]) {
        let Some((step, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.below.remove(*step);
        } else if let Some(fields) = self.below.get_mut(*step) {
            fields.remove(rest);
            if fields.is_empty() {
                self.below.remove(*step);
            }
        }
    }

    /// The places in the set, as people write paths: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = vec![];
        self.collect("", &mut found);
        found
    }

    fn collect(&self, path: &str, found: &mut Vec<String>) {
        if self.here {
            found.push(path.to_owned());
        }
        for (step, fields) in &self.below {
            fields.collect(&format!("{path}{}", readable(step)), found);
        }
    }

    /// As `fieldsV1`.
    pub fn write(&self) -> Value {
        let own = (self.here && !self.below.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        let below = self.below.iter().map(|(step, fields)| (step.clone(), fields.write()));
        Value::Object(own.into_iter().chain(below).collect())
    }

    /// From `fieldsV1`; what is none of it is left out.
    pub fn read(value: &Value) -> Self {
        let mut set = Self::default();
        for (step, fields) in value.as_object().into_iter().flatten() {
            match (step.as_str(), fields) {
                (".", _) => set.here = true,
                (step, Value::Object(map)) if map.is_empty() => set.insert(step.to_owned(), Self::leaf()),
                (step, fields) => set.insert(step.to_owned(), Self::read(fields)),
            }
        }
        set
    }

    /// All fields of a value: its leaves, and every item of a map or a list (`ToFieldSet`).
    pub fn of(value: &Value, ty: Type<'_>) -> Self {
        let mut set = Self::default();
        match (value, ty.structure(value)) {
            (Value::Object(map), structure @ (Structure::Fields | Structure::Map)) if !map.is_empty() => {
                for (key, value) in map {
                    let mut fields = Self::of(value, ty.field(key));
                    fields.here |= structure == Structure::Map || !ty.declares(key);
                    set.insert(format!("f:{key}"), fields);
                }
            }
            (Value::Array(items), structure @ (Structure::Set | Structure::Keyed(_)))
                if !items.is_empty() =>
            {
                let Some(steps) = steps(items, &structure, ty.items()) else { return Self::leaf() };
                for (step, value) in steps {
                    let mut fields = Self::of(value, ty.items());
                    fields.here = true;
                    set.insert(step, fields);
                }
            }
            _ => set.here = true,
        }
        set
    }
}

/// The items of a list by their steps; `None` where they cannot be told apart, and the list can
/// only be treated as a whole.
pub(super) fn steps<'v>(
    items: &'v [Value],
    structure: &Structure<'_>,
    ty: Type<'_>,
) -> Option<Vec<(String, &'v Value)>> {
    let mut found: Vec<(String, &Value)> = Vec::with_capacity(items.len());
    for item in items {
        let step = step(item, structure, ty)?;
        if found.iter().any(|(other, _)| *other == step) {
            return None;
        }
        found.push((step, item));
    }
    Some(found)
}

fn step(item: &Value, structure: &Structure<'_>, ty: Type<'_>) -> Option<String> {
    let Structure::Keyed(keys) = structure else { return Some(format!("v:{item}")) };
    let item = item.as_object()?;
    let given = |key: &str| item.get(key).or_else(|| ty.field(key).default()).cloned();
    let key: Map<String, Value> = keys.iter().filter_map(|k| Some(((*k).to_owned(), given(k)?))).collect();
    (!key.is_empty()).then(|| format!("k:{}", Value::Object(key)))
}

fn readable(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("k", keys)) => {
            let mut out = String::from("[");
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            for (i, (key, value)) in keys.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(out, "{}{key}={value}", if i > 0 { "," } else { "" });
            }
            out + "]"
        }
        _ => format!("[{step}]"),
    }
}
