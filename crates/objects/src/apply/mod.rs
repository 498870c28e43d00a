//! Server-side apply (KEP-555): who manages which field of an object, and what applying a
//! configuration makes of it. The rules are those of structured-merge-diff.

mod compare;
mod fields;
mod managers;
mod merge;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::FieldError;
use crate::schema::Type;
use compare::compare;
pub use fields::Fields;
pub use managers::{Managed, Manager, Operation};

/// Why a configuration was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Other managers have set fields to other values.
    #[error("{} fields are managed by others", .0.len())]
    Conflicts(Vec<Conflict>),
    /// It cannot be merged.
    #[error(transparent)]
    Malformed(#[from] FieldError),
}

/// A field that another manager has set to another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Whose it is.
    pub manager: Manager,
    /// When that manager last changed its fields.
    pub time: Option<String>,
    /// The field, as `.spec.replicas`.
    pub path: String,
}

/// Who applies, and when.
#[derive(Debug, Clone, Copy)]
pub struct Applier<'a> {
    /// The manager.
    pub manager: &'a Manager,
    /// Now, as `metav1.Time` is written.
    pub now: &'a str,
    /// Whether the fields of others are taken over.
    pub force: bool,
}

/// What becomes of an object when a configuration is applied to it: its fields are merged in, and
/// what this manager applied before and no longer does is taken out, unless others want it too.
/// `live` is `None` for an object that does not exist yet.
///
/// # Errors
/// Fields that others manage, without `force`; lists that cannot be merged.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    ty: Type<'_>,
    applier: Applier<'_>,
) -> Result<Value, Refusal> {
    let mut managed = Managed::of(live);
    if let Some(live) = live.filter(|_| managed.is_empty()) {
        managed.adopt(owned(live, ty), live);
    }
    let manager = applier.manager;
    let wanted = managers::without_identity(Fields::of(config, ty));
    let before = without_bookkeeping(live.cloned().unwrap_or_else(|| Value::Object(Map::new())));
    let mut after = merge::merge(before.clone(), config, ty, "")?;
    let gone = managed.fields(manager).without(&wanted);
    let mut kept = managed.fields_of_others(manager);
    kept.merge(wanted.clone());
    let gone = managers::without_identity(gone.without(&kept));
    if !gone.is_empty() {
        merge::prune(&mut after, &gone, &kept, ty);
    }
    let difference = compare(Some(&before), Some(&after), ty);
    let conflicts = managed.conflicts(manager, &difference.changed);
    if !conflicts.is_empty() && !applier.force {
        return Err(Refusal::Conflicts(conflicts));
    }
    managed.release(manager, &difference.changed);
    managed.release_all(&difference.removed);
    managed.set(manager, wanted, applier.now);
    managed.write(&mut after);
    Ok(after)
}

/// Records in `after` who manages what, once `manager` has made it of `before` by any write other
/// than an apply: what it changed is now its own.
pub fn track(before: Option<&Value>, after: &mut Value, ty: Type<'_>, manager: &Manager, now: &str) {
    // A client may edit the record itself; one that does not know it leaves it out.
    let mut managed = Managed::of(Some(after));
    let reset = managers::is_reset(after);
    if managed.is_empty() && !reset {
        managed = Managed::of(before);
    }
    let old = before.cloned().map(without_bookkeeping);
    let new = without_bookkeeping(after.clone());
    let difference = compare(old.as_ref(), Some(&new), ty);
    let changed = managers::without_identity(difference.changed);
    managed.release(manager, &changed);
    managed.release_all(&difference.removed);
    if !changed.is_empty() {
        let mut fields = managed.fields(manager);
        fields.merge(changed);
        managed.set(manager, fields, now);
    }
    managed.write(after);
}

fn owned(object: &Value, ty: Type<'_>) -> Fields {
    managers::without_identity(Fields::of(&without_bookkeeping(object.clone()), ty))
}

fn without_bookkeeping(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}
