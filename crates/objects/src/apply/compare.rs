use serde_json::Value;

use super::fields::{Fields, steps};
use crate::schema::{Structure, Type};

/// What differs between two states of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// What was added or changed.
    pub(super) changed: Fields,
    /// What is gone.
    pub(super) removed: Fields,
}

impl Difference {
    fn descend(&mut self, step: &str, inner: Difference) {
        self.changed.insert(step.to_owned(), inner.changed);
        self.removed.insert(step.to_owned(), inner.removed);
    }
}

/// Compares two states, of which either may be absent.
pub(super) fn compare(before: Option<&Value>, after: Option<&Value>, ty: Type<'_>) -> Difference {
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) if before == after => return Difference::default(),
        (Some(before), Some(after)) => (before, after),
        (None, Some(after)) => return Difference { changed: whole(after, ty), ..Difference::default() },
        (Some(before), None) => return Difference { removed: whole(before, ty), ..Difference::default() },
        (None, None) => return Difference::default(),
    };
    let both = (items(before, ty), items(after, ty));
    let (Some(before), Some(after)) = both else {
        return Difference { changed: Fields::leaf(), ..Difference::default() };
    };
    let mut found = Difference::default();
    let gone = before.iter().filter(|(step, ..)| after.iter().all(|(s, ..)| s != step));
    for (step, value, ty) in gone {
        let mut inner = compare(Some(value), None, *ty);
        inner.removed.here = true;
        found.descend(step, inner);
    }
    for (step, value, ty) in &after {
        let old = before.iter().find(|(s, ..)| s == step).map(|(_, value, _)| *value);
        let mut inner = compare(old, Some(value), *ty);
        inner.changed.here |= old.is_none() && !step.starts_with("f:");
        found.descend(step, inner);
    }
    found
}

/// All of a value, and the places of maps, which come or go as such.
fn whole(value: &Value, ty: Type<'_>) -> Fields {
    let Some(items) = items(value, ty).filter(|items| !items.is_empty()) else { return Fields::leaf() };
    let mut all = Fields { here: ty.structure(value) == Structure::Map, ..Fields::default() };
    for (step, value, ty) in items {
        let mut fields = whole(value, ty);
        fields.here |= !step.starts_with("f:");
        all.insert(step, fields);
    }
    all
}

type Items<'v, 't> = Vec<(String, &'v Value, Type<'t>)>;

/// What a value is made of; `None` where it is compared as a whole.
fn items<'v, 't>(value: &'v Value, ty: Type<'t>) -> Option<Items<'v, 't>> {
    match (value, ty.structure(value)) {
        (Value::Object(map), Structure::Fields | Structure::Map) => {
            Some(map.iter().map(|(key, value)| (format!("f:{key}"), value, ty.field(key))).collect())
        }
        (Value::Array(list), structure @ (Structure::Set | Structure::Keyed(_))) => {
            let found = steps(list, &structure, ty.items())?;
            Some(found.into_iter().map(|(step, value)| (step, value, ty.items())).collect())
        }
        _ => None,
    }
}
