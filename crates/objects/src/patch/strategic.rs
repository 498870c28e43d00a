//! Strategic merge patch: objects merge, lists of the built-in kinds merge by key, and directives
//! in the patch delete, replace and order (apimachinery `strategicpatch`).

use serde_json::{Map, Value};

use super::Error;
use super::schema::{self, Field, PLAIN, Schema};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Where list items go that the target does not have yet and no directive orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Additions {
    /// Behind what is there, as the API server does.
    Last,
    /// Before what is there, as kustomize does, which also moves items that the patch names to the
    /// front.
    First,
}

/// Applies a patch as the API server does. The target's kind decides which lists have keys; in an
/// object of an unknown kind all lists are replaced.
///
/// # Errors
/// A directive that is none, or a keyed list item without its key; the target is then unchanged.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), Error> {
    apply_with(target, patch, Additions::Last)
}

/// As [`apply`], with a choice of where new list items go.
///
/// # Errors
/// As [`apply`].
pub fn apply_with(target: &mut Value, patch: &Value, additions: Additions) -> Result<(), Error> {
    let text = |key: &str| target.get(key).and_then(Value::as_str).unwrap_or_default();
    let schema = schema::of(text("apiVersion"), text("kind"));
    let (Value::Object(into), Value::Object(from)) = (&*target, patch) else {
        return Err(malformed("both the object and the patch must be objects"));
    };
    *target = Merger { additions }.object(into.clone(), from, schema, "")?;
    Ok(())
}

fn malformed(message: impl Into<String>) -> Error {
    Error::Malformed { format: "strategic merge", message: message.into() }
}

struct Merger {
    additions: Additions,
}

impl Merger {
    fn object(
        &self,
        mut target: Map<String, Value>,
        patch: &Map<String, Value>,
        schema: &Schema,
        path: &str,
    ) -> Result<Value, Error> {
        match directive(patch, path)? {
            Directive::Replace => return Ok(without_directives(patch)),
            Directive::Delete => return Ok(Value::Object(Map::new())),
            Directive::Merge => {}
        }
        retain(&mut target, patch, path)?;
        for (key, value) in patch {
            if key.starts_with('$') {
                continue;
            }
            let field = schema.0.iter().find(|(name, _)| name == key).map(|(_, field)| field);
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if value.is_null() {
                target.remove(key);
                continue;
            }
            let before = target.remove(key);
            let mut merged = self.field(before.clone(), value, field, &at)?;
            if let (Value::Array(items), Some(order)) = (&mut merged, patch.get(&format!("{ORDER}{key}"))) {
                let order = list(order, &at)?;
                *items = ordered(std::mem::take(items), order, &self::items(before), key_of(field));
            }
            target.insert(key.clone(), merged);
        }
        lists_without_values(&mut target, patch, schema, path)?;
        Ok(Value::Object(target))
    }

    fn field(
        &self,
        target: Option<Value>,
        patch: &Value,
        field: Option<&Field>,
        path: &str,
    ) -> Result<Value, Error> {
        match (target, patch, field) {
            (target, Value::Object(patch), field) => {
                let schema = match field {
                    Some(Field::Object(schema)) => schema,
                    _ => &PLAIN,
                };
                let target = match target {
                    Some(Value::Object(target)) => target,
                    _ => Map::new(),
                };
                self.object(target, patch, schema, path)
            }
            (target, Value::Array(patch), Some(Field::Keyed { key, second, item })) => {
                let keys = Keys { first: key, second: *second };
                self.keyed(items(target), patch, &keys, item, path)
            }
            (target, Value::Array(patch), Some(Field::Set)) => {
                let before = items(target);
                let mut all = before.clone();
                for value in patch {
                    if !all.contains(value) {
                        all.push(value.clone());
                    }
                }
                Ok(Value::Array(ordered(all, patch, &before, None)))
            }
            (_, patch, _) => Ok(cleaned(patch)),
        }
    }

    fn keyed(
        &self,
        mut target: Vec<Value>,
        patch: &[Value],
        keys: &Keys,
        schema: &Schema,
        path: &str,
    ) -> Result<Value, Error> {
        let before = target.clone();
        let mut added = vec![];
        let mut replace = false;
        for (i, item) in patch.iter().enumerate() {
            let at = format!("{path}[{i}]");
            let Value::Object(item) = item else {
                return Err(malformed(format!("{at}: expected an object")));
            };
            let directive = directive(item, &at)?;
            if directive == Directive::Replace && item.len() == 1 {
                // `- $patch: replace` alone: the list becomes the rest of the patch.
                replace = true;
                continue;
            }
            if !item.contains_key(keys.first) {
                return Err(malformed(format!(
                    "{at}: needs {}, by which items of this list are matched",
                    keys.first
                )));
            }
            let found = keys.position(&target, item, patch);
            match (directive, found) {
                (Directive::Delete, _) => target.retain(|t| !keys.deletes(t, item)),
                (_, None) => added.push(self.object(Map::new(), item, schema, &at)?),
                (Directive::Replace, Some(found)) => target[found] = without_directives(item),
                (Directive::Merge, Some(found)) => {
                    let Value::Object(into) = std::mem::take(&mut target[found]) else { continue };
                    target[found] = self.object(into, item, schema, &at)?;
                }
            }
        }
        if replace {
            let rest = patch.iter().filter_map(Value::as_object).filter(|item| !item.contains_key(PATCH));
            return Ok(Value::Array(rest.map(without_directives).collect()));
        }
        Ok(Value::Array(match self.additions {
            Additions::Last => {
                target.extend(added);
                ordered(target, patch, &before, Some(keys.first))
            }
            // As kustomize orders: first what the patch names, by the first key.
            Additions::First => {
                ordered(added.into_iter().chain(target).collect(), patch, &[], Some(keys.first))
            }
        }))
    }
}

/// By what the items of a list are matched.
struct Keys {
    first: &'static str,
    second: Option<(&'static str, &'static str)>,
}

impl Keys {
    /// The item of the target that a patch item speaks of. Where the first key alone does not
    /// decide (one port number, two protocols), the second does, if the patch names it.
    fn position(&self, target: &[Value], item: &Map<String, Value>, patch: &[Value]) -> Option<usize> {
        let agrees = |t: &Value| t.get(self.first) == item.get(self.first);
        let Some((second, default)) = self.second else { return target.iter().position(agrees) };
        let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or(default).to_owned();
        let wanted = text(item.get(second));
        let exact = target.iter().position(|t| agrees(t) && text(t.get(second)) == wanted);
        let candidates = target.iter().filter(|t| agrees(t)).count();
        let rivals = patch.iter().filter(|p| agrees(p)).count();
        match exact {
            Some(_) => exact,
            None if candidates == 1 && rivals == 1 => target.iter().position(agrees),
            None => None,
        }
    }

    fn deletes(&self, target: &Value, item: &Map<String, Value>) -> bool {
        target.get(self.first) == item.get(self.first)
            && self.second.is_none_or(|(second, default)| match item.get(second) {
                Some(wanted) => target.get(second).unwrap_or(&Value::from(default)) == wanted,
                None => true,
            })
    }
}

#[derive(PartialEq, Clone, Copy)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>, path: &str) -> Result<Directive, Error> {
    match patch.get(PATCH).map(Value::as_str) {
        None | Some(Some("merge")) => Ok(Directive::Merge),
        Some(Some("replace")) => Ok(Directive::Replace),
        Some(Some("delete")) => Ok(Directive::Delete),
        Some(_) => {
            let found = &patch[PATCH];
            Err(malformed(format!("{path}: $patch is {found}; it may be merge, replace or delete")))
        }
    }
}

/// `$retainKeys`: what is not listed goes (the other members of a union).
fn retain(target: &mut Map<String, Value>, patch: &Map<String, Value>, path: &str) -> Result<(), Error> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let Some(keys) = keys.as_array() else {
        return Err(malformed(format!("{path}: {RETAIN_KEYS} must be a list")));
    };
    target.retain(|key, _| keys.iter().any(|k| k.as_str() == Some(key)));
    Ok(())
}

/// Directives about lists that the patch itself does not carry: deletions from sets, and an order
/// without any change.
fn lists_without_values(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    schema: &Schema,
    path: &str,
) -> Result<(), Error> {
    for (key, value) in patch {
        if let (Some(field), Some(gone)) = (key.strip_prefix(DELETE), value.as_array()) {
            if let Some(Value::Array(items)) = target.get_mut(field) {
                items.retain(|item| !gone.contains(item));
            }
        } else if let Some(name) = key.strip_prefix(ORDER) {
            if patch.contains_key(name) {
                continue;
            }
            let order = list(value, &format!("{path}.{name}"))?;
            if let Some(Value::Array(items)) = target.get_mut(name) {
                let field = schema.0.iter().find(|(n, _)| *n == name).map(|(_, field)| field);
                *items = ordered(items.clone(), order, items, key_of(field));
            }
        }
    }
    Ok(())
}

/// Puts items in order: those that `order` names as it names them, the others as they were
/// `before`; where both have a place in `before`, that decides which comes first, else what
/// `order` names does.
fn ordered(items: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let same = |a: &Value, b: &Value| match key {
        Some(key) => a.get(key) == b.get(key),
        None => a == b,
    };
    let rank = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut named, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|i| rank(order, i).is_some());
    named.sort_by_key(|item| rank(order, item));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        let place = rank(before, &other);
        let goes_first = |n: &Value| match (rank(before, n), place) {
            (Some(n), Some(place)) => n < place,
            _ => true,
        };
        while let Some(next) = named.next_if(|n| goes_first(n)) {
            result.push(next);
        }
        result.push(other);
    }
    result.extend(named);
    result
}

fn key_of(field: Option<&Field>) -> Option<&'static str> {
    match field {
        Some(Field::Keyed { key, .. }) => Some(key),
        _ => None,
    }
}

fn list<'a>(order: &'a Value, path: &str) -> Result<&'a [Value], Error> {
    order.as_array().map(Vec::as_slice).ok_or_else(|| malformed(format!("{path}: {ORDER} must be a list")))
}

fn items(target: Option<Value>) -> Vec<Value> {
    match target {
        Some(Value::Array(items)) => items,
        _ => vec![],
    }
}

fn without_directives(patch: &Map<String, Value>) -> Value {
    Value::Object(
        patch
            .iter()
            .filter(|(k, v)| !k.starts_with('$') && !v.is_null())
            .map(|(k, v)| (k.clone(), cleaned(v)))
            .collect(),
    )
}

/// A value of the patch that the target takes over: without directives.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => without_directives(fields),
        Value::Array(items) => {
            let deleted = |v: &&Value| v.get(PATCH).is_none_or(|p| p != "delete");
            Value::Array(items.iter().filter(deleted).map(cleaned).collect())
        }
        other => other.clone(),
    }
}
