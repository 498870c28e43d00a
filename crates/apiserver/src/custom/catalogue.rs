use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use kilter_objects::kinds::{Handling, Kind};
use serde_json::Value;

use super::{Custom, Version};
use crate::resources::Resource;

/// What one store serves: the published list, and what definitions add to it.
#[derive(Debug, Default)]
pub struct Catalogue(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    /// What each definition has served, by its name.
    defined: BTreeMap<String, Vec<&'static Resource>>,
    /// Every custom resource that there ever was. The names live as long as the process, for they are
    /// in every request's hands; they are small, and the same ones are used again.
    ever: Vec<&'static Resource>,
}

impl Catalogue {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is served: the published list, then custom resources by group, the preferred version
    /// first.
    pub fn all(&self) -> Vec<&'static Resource> {
        let mut custom: Vec<&'static Resource> = self.state().defined.values().flatten().copied().collect();
        custom.sort_by_key(|r| (r.kind.group, Reverse(rank(r.kind.version)), r.kind.plural));
        Resource::all().iter().chain(custom).collect()
    }

    /// The resource at a URL.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        let is = |r: &Resource| r.kind.group == group && r.kind.version == version && r.kind.plural == plural;
        Resource::find(group, version, plural)
            .or_else(|| self.state().defined.values().flatten().copied().find(|r| is(r)))
    }

    /// The resource of a kind, as an ownerReference names it.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&'static Resource> {
        let is = |r: &Resource| r.kind.kind == kind && r.kind.api_version() == api_version;
        Resource::of_kind(api_version, kind)
            .or_else(|| self.state().defined.values().flatten().copied().find(|r| is(r)))
    }

    /// Another definition's resource, or a built-in one, that has one of these names.
    pub fn taken(&self, definition: &Value) -> Option<&'static Resource> {
        let (own, spec) = (crate::meta::text(definition, "name"), &definition["spec"]);
        let names = &spec["names"];
        let mut wanted: Vec<&str> = ["plural", "singular"].iter().filter_map(|k| names[*k].as_str()).collect();
        wanted.extend(names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str));
        let state = self.state();
        let others = state.defined.iter().filter(|(name, _)| *name != own).flat_map(|(_, of)| of.iter().copied());
        let built_in = Resource::all().iter().filter(|r| format!("{}.{}", r.kind.plural, r.kind.group) != own);
        others.chain(built_in).filter(|r| spec["group"] == r.kind.group).find(|r| {
            let kind = r.kind;
            let has = |name: &str| kind.plural == name || kind.singular == name || kind.short_names.contains(&name);
            names["kind"] == kind.kind || wanted.iter().any(|name| has(name))
        })
    }

    /// Takes a definition in; answers the resource under which its objects are kept. `None` for a
    /// kind that is built in.
    pub fn define(&self, definition: &Value) -> Option<&'static Resource> {
        let (spec, name) = (&definition["spec"], crate::meta::text(definition, "name"));
        if Resource::all().iter().any(|r| spec["group"] == r.kind.group && spec["names"]["plural"] == r.kind.plural) {
            return None;
        }
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (mut served, mut stored) = (vec![], None);
        for version in spec["versions"].as_array().into_iter().flatten() {
            let resource = state.resource(definition, version);
            if version["served"] == true {
                served.push(resource);
            }
            if version["storage"] == true {
                stored = Some(resource);
            }
        }
        state.defined.insert(name.to_owned(), served);
        stored
    }

    /// Forgets a definition.
    pub fn undefine(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).defined.remove(name);
    }
}

impl State {
    /// The resource of a version: the one that had its names before, or a new one.
    fn resource(&mut self, definition: &Value, version: &Value) -> &'static Resource {
        let described = describe(definition, version);
        let found = self.ever.iter().copied().find(|known| {
            known.kind == described.kind && known.fields.iter().copied().eq(described.fields.iter().map(|f| &**f))
        });
        let now = Version::of(definition, version);
        if let (Some(found), Some(custom)) = (found, found.and_then(|f| f.custom.as_ref())) {
            custom.set(now);
            return found;
        }
        let resource = described.keep(now);
        self.ever.push(resource);
        resource
    }
}

/// The names of a version, before they are kept for good.
struct Described {
    kind: BorrowedKind,
    fields: Vec<String>,
}

/// A [`Kind`] whose names are not kept yet.
struct BorrowedKind {
    group: String,
    version: String,
    kind: String,
    plural: String,
    singular: String,
    short_names: Vec<String>,
    namespaced: bool,
    status: bool,
    scale: bool,
}

impl PartialEq<BorrowedKind> for &Kind {
    fn eq(&self, other: &BorrowedKind) -> bool {
        self.group == other.group
            && self.version == other.version
            && self.kind == other.kind
            && self.plural == other.plural
            && self.singular == other.singular
            && self.short_names.iter().copied().eq(other.short_names.iter().map(|s| &**s))
            && (self.namespaced, self.status, self.scale) == (other.namespaced, other.status, other.scale)
    }
}

fn describe(definition: &Value, version: &Value) -> Described {
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let selectable = list(&version["selectableFields"]);
    Described {
        kind: BorrowedKind {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            kind: text(&names["kind"]),
            plural: text(&names["plural"]),
            singular: text(&names["singular"]),
            short_names: list(&names["shortNames"]).iter().map(text).collect(),
            namespaced: spec["scope"] == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            scale: version["subresources"]["scale"].is_object(),
        },
        fields: selectable.iter().map(|f| text(&f["jsonPath"]).trim_start_matches('.').to_owned()).collect(),
    }
}

fn keep(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn keep_all(texts: Vec<String>) -> &'static [&'static str] {
    Box::leak(texts.into_iter().map(keep).collect())
}

impl Described {
    fn keep(self, now: Version) -> &'static Resource {
        let kind = self.kind;
        let kind: &'static Kind = Box::leak(Box::new(Kind {
            group: keep(kind.group),
            version: keep(kind.version),
            kind: keep(kind.kind),
            plural: keep(kind.plural),
            singular: keep(kind.singular),
            short_names: keep_all(kind.short_names),
            namespaced: kind.namespaced,
            status: kind.status,
            scale: kind.scale,
            in_all: false,
            handling: Handling::Stores,
        }));
        Box::leak(Box::new(Resource {
            kind,
            generation: true,
            unconditional_update: true,
            fields: keep_all(self.fields),
            stored_as: (kind.group, kind.plural),
            subresources: &[],
            custom: Some(Custom::new(now)),
        }))
    }
}

/// How a version compares with others of its group: `v2` before `v1` before `v1beta2` before
/// `v1alpha1` before all that is not named so.
fn rank(version: &str) -> (u8, u32, u32, Reverse<&str>) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        match &rest[digits..] {
            "" => Some((3, major, 0)),
            beta if beta.starts_with("beta") => Some((2, major, beta[4..].parse().ok()?)),
            alpha if alpha.starts_with("alpha") => Some((1, major, alpha[5..].parse().ok()?)),
            _ => None,
        }
    };
    let (stage, major, minor) = parse().unwrap_or((0, 0, 0));
    (stage, major, minor, Reverse(version))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(name: &str, short: &str, versions: &[(&str, bool)]) -> Value {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(version, storage)| json!({"name": version, "served": true, "storage": storage,
                "schema": {"openAPIV3Schema": {"type": "object"}}}))
            .collect();
        json!({"metadata": {"name": format!("{name}s.acme.example")}, "spec": {"group": "acme.example", "scope": "Namespaced",
            "names": {"kind": name, "plural": format!("{name}s"), "singular": name, "shortNames": [short]}, "versions": versions}})
    }

    #[test]
    fn a_definition_is_served_until_it_is_gone() {
        let catalogue = Catalogue::default();
        let stored = catalogue.define(&definition("gear", "g", &[("v1beta1", false), ("v1", true)]));
        assert_eq!(stored.map(|r| r.kind.version), Some("v1"));
        let versions: Vec<_> = catalogue.all().iter().filter(|r| r.custom.is_some()).map(|r| r.kind.version).collect();
        assert_eq!(versions, ["v1", "v1beta1"], "the preferred one first");
        assert!(catalogue.find("acme.example", "v1beta1", "gears").is_some());
        assert!(catalogue.of_kind("acme.example/v1", "gear").is_some());
        let again = catalogue.define(&definition("gear", "g", &[("v1beta1", false), ("v1", true)]));
        assert!(std::ptr::eq(again.expect("defined"), stored.expect("defined")), "nothing new is kept");
        catalogue.undefine("gears.acme.example");
        assert!(catalogue.find("acme.example", "v1", "gears").is_none());
    }

    #[test]
    fn names_belong_to_one_kind_of_a_group() {
        let catalogue = Catalogue::default();
        catalogue.define(&definition("gear", "g", &[("v1", true)]));
        assert!(catalogue.taken(&definition("gear", "g", &[("v1", true)])).is_none(), "its own");
        assert!(catalogue.taken(&definition("gadget", "g", &[("v1", true)])).is_some());
        assert!(catalogue.taken(&definition("gadget", "gg", &[("v1", true)])).is_none());
    }

    #[test]
    fn versions_are_ranked_as_kubernetes_ranks_them() {
        let mut versions = vec!["v1alpha1", "v2", "foo", "v1beta2", "v10", "v1", "v1beta10"];
        versions.sort_by_key(|v| Reverse(rank(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
    }
}
