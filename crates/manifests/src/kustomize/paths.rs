use serde_json::{Map, Value};

use super::fields::FieldSpec;
use super::resource::Resource;

/// Visits what lies at `path` (`a/b[]/c`; lists on the way are walked item by item). Missing
/// objects on the way, and at the end, are made when `create`.
pub(super) fn visit(value: &mut Value, path: &str, create: bool, f: &mut dyn FnMut(&mut Value)) {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    walk(value, &segments, create, f);
}

fn walk(value: &mut Value, path: &[&str], create: bool, f: &mut dyn FnMut(&mut Value)) {
    if let Value::Array(items) = value {
        for item in items {
            walk(item, path, create, f);
        }
        return;
    }
    let Some((first, rest)) = path.split_first() else { return f(value) };
    let Value::Object(fields) = value else { return };
    let name = first.strip_suffix("[]").unwrap_or(first);
    if fields.get(name).is_none_or(Value::is_null) {
        // A list cannot be made: nobody knows of how many items.
        if !create || first.ends_with("[]") {
            return;
        }
        fields.insert(name.to_owned(), Value::Object(Map::new()));
    }
    if let Some(next) = fields.get_mut(name) {
        walk(next, rest, create, f);
    }
}

/// A place in objects of some kinds; empty group, version or kind means any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub path: &'a str,
    pub create: bool,
}

/// A place in objects of a kind, of any group and version.
pub(super) const fn at(kind: &'static str, path: &'static str, create: bool) -> Spec<'static> {
    Spec { group: "", version: "", kind, path, create }
}

impl<'a> From<&'a FieldSpec> for Spec<'a> {
    fn from(it: &'a FieldSpec) -> Self {
        Self { group: &it.group, version: &it.version, kind: &it.kind, path: &it.path, create: it.create }
    }
}

impl Spec<'_> {
    /// Visits this place in a resource, if it is of the kind.
    pub fn visit(&self, resource: &mut Resource, f: &mut dyn FnMut(&mut Value)) {
        let (group, version) = resource.group_version();
        let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        if fits(self.group, &group) && fits(self.version, &version) && fits(self.kind, resource.kind()) {
            visit(&mut resource.value, self.path, self.create, f);
        }
    }
}
