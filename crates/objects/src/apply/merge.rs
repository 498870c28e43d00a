use serde_json::{Map, Value};

use super::fields::{Fields, steps};
use crate::FieldError;
use crate::schema::{Structure, Type};

/// The live state with what a client applies.
///
/// # Errors
/// An applied list whose items cannot be told apart.
pub(super) fn merge(live: Value, applied: &Value, ty: Type<'_>, path: &str) -> Result<Value, FieldError> {
    match (live, applied, ty.structure(applied)) {
        (live, Value::Object(applied), Structure::Fields | Structure::Map) => {
            let mut merged = match live {
                Value::Object(live) => live,
                _ => Map::new(),
            };
            for (key, value) in applied {
                let live = merged.remove(key).unwrap_or_default();
                let value = merge(live, value, ty.field(key), &format!("{path}.{key}"))?;
                merged.insert(key.clone(), value);
            }
            Ok(Value::Object(merged))
        }
        (live, Value::Array(applied), structure @ (Structure::Set | Structure::Keyed(_))) => {
            let live = match live {
                Value::Array(items) => items,
                _ => vec![],
            };
            list(&live, applied, &structure, ty.items(), path)
        }
        (_, applied, _) => Ok(applied.clone()),
    }
}

/// Items keep their place, and those that are applied also their order among each other.
fn list(
    live: &[Value],
    applied: &[Value],
    structure: &Structure<'_>,
    ty: Type<'_>,
    path: &str,
) -> Result<Value, FieldError> {
    let Some(applied) = steps(applied, structure, ty) else {
        let keys = match structure {
            Structure::Keyed(keys) => keys.join(", "),
            _ => "value".into(),
        };
        return Err(FieldError::new(
            path.trim_start_matches('.'),
            format!("Invalid value: the items of this list must be objects that differ in {keys}"),
        ));
    };
    // A live list whose items cannot be told apart is replaced.
    let live = steps(live, structure, ty).unwrap_or_default();
    let find = |list: &[(String, &Value)], step: &str| list.iter().find(|(s, _)| s == step).map(|(_, v)| (*v).clone());
    let mut waiting = live.iter().peekable();
    let mut merged = vec![];
    for (step, value) in &applied {
        // What nobody applies stays before what followed it.
        while let Some((_, value)) = waiting.next_if(|(s, _)| find(&applied, s).is_none()) {
            merged.push((*value).clone());
        }
        match find(&live, step) {
            Some(old) => {
                waiting.next();
                merged.push(merge(old, value, ty, &format!("{path}[{step}]"))?);
            }
            None => merged.push((*value).clone()),
        }
    }
    let rest = waiting.filter(|(s, _)| find(&applied, s).is_none());
    merged.extend(rest.map(|(_, value)| (*value).clone()));
    Ok(Value::Array(merged))
}

/// Takes out of a value what is to go. Of what somebody keeps a part, that part stays, in an item
/// of a list with its keys. Answers whether anything is left.
pub(super) fn prune(value: &mut Value, gone: &Fields, kept: &Fields, ty: Type<'_>) -> bool {
    let structure = ty.structure(value);
    if gone.here && kept.is_empty() {
        return false;
    }
    let below = |set: &Fields, step: &str| set.below.get(step).cloned().unwrap_or_default();
    match value {
        Value::Object(map) if !matches!(structure, Structure::Atomic) => {
            let had = !map.is_empty();
            map.retain(|key, value| {
                let step = format!("f:{key}");
                let Some(gone) = gone.below.get(&step) else { return true };
                prune(value, gone, &below(kept, &step), ty.field(key))
            });
            // An object that only held what is gone goes with it.
            !had || !map.is_empty() || !kept.is_empty()
        }
        Value::Array(items) => {
            let Some(found) = steps(items, &structure, ty.items()).filter(|_| structure != Structure::Atomic)
            else {
                return true;
            };
            let found: Vec<String> = found.into_iter().map(|(step, _)| step).collect();
            let mut found = found.iter();
            let had = !items.is_empty();
            items.retain_mut(|item| {
                let Some((step, gone)) = found.next().and_then(|s| Some((s, gone.below.get(s)?))) else {
                    return true;
                };
                let keys = item.clone();
                let left = prune(item, gone, &below(kept, step), ty.items());
                if left && let Structure::Keyed(names) = &structure {
                    restore(item, &keys, names);
                }
                left
            });
            !had || !items.is_empty() || !kept.is_empty()
        }
        _ => true,
    }
}

/// An item that stays keeps the keys by which it is known.
fn restore(item: &mut Value, before: &Value, keys: &[&str]) {
    for key in keys {
        if let (Value::Object(item), Some(value)) = (&mut *item, before.get(key)) {
            item.entry(*key).or_insert_with(|| value.clone());
        }
    }
}
