//! Lines of single fields: a document's origin says where it begins, and an answer about one rule
//! should point at that rule.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kilter_model::Origin;
use kilter_objects::value;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::yaml;

/// Finds lines on demand: files are read again, once each, and only those that are asked about.
/// What cannot be read again (standard input, text) keeps the line of its document.
#[derive(Debug, Default)]
pub struct Lines {
    files: BTreeMap<Arc<str>, Vec<Tree>>,
}

impl Lines {
    /// Where the field at a JSON pointer of an object was declared: its line, or that of the
    /// nearest field around it that its document has (a patch may have added the rest).
    pub fn of(&mut self, object: &Value, origin: &Origin, pointer: &str) -> Origin {
        let Origin::File { path, line } = origin else { return origin.clone() };
        let trees = self.files.entry(path.clone()).or_insert_with(|| read(path));
        let document = trees.iter().find(|tree| tree.line == *line);
        let line = document.map_or(*line, |tree| tree.item(object).descend(pointer));
        Origin::File { path: path.clone(), line }
    }

    /// Where a field was declared, whose path is as faults have it: `spec.ingress[0].ports`.
    pub fn of_field(&mut self, object: &Value, origin: &Origin, field: &str) -> Origin {
        self.of(object, origin, &pointer(field))
    }
}

/// The JSON pointer of a field's path. What stands in brackets is one key, dots included.
fn pointer(field: &str) -> String {
    let (mut pointer, mut in_brackets) = (String::from("/"), false);
    for c in field.chars() {
        match c {
            '[' => {
                pointer.push('/');
                in_brackets = true;
            }
            ']' => in_brackets = false,
            '.' if !in_brackets => pointer.push('/'),
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
    pointer
}

fn read(path: &str) -> Vec<Tree> {
    let bytes = std::fs::read(path).unwrap_or_default();
    yaml::trees(path, &bytes).unwrap_or_default()
}

/// A document's shape, with the line on which each field's key or each element begins.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    line: u32,
    content: Content,
}

#[derive(Debug, Default)]
enum Content {
    #[default]
    Leaf,
    /// What a scalar says, where it may identify an item of a List.
    Text(String),
    Map(BTreeMap<String, Tree>),
    List(Vec<Tree>),
}

impl Tree {
    fn child(&self, key: &str) -> Option<&Tree> {
        match &self.content {
            Content::Map(fields) => fields.get(key),
            Content::List(items) => items.get(key.parse::<usize>().ok()?),
            Content::Leaf | Content::Text(_) => None,
        }
    }

    fn text(&self, path: &[&str]) -> &str {
        let found = path.iter().try_fold(self, |tree, key| tree.child(key));
        match found.map(|tree| &tree.content) {
            Some(Content::Text(text)) => text,
            _ => "",
        }
    }

    /// The item of a List that is this object; the document itself where it is none.
    fn item(&self, object: &Value) -> &Tree {
        let Some(Content::List(items)) = self.child("items").map(|it| &it.content) else { return self };
        let is = |it: &&Tree| {
            it.text(&["metadata", "name"]) == value::name(object)
                && [value::kind(object), ""].contains(&it.text(&["kind"]))
                && [value::namespace(object), ""].contains(&it.text(&["metadata", "namespace"]))
        };
        items.iter().find(is).unwrap_or(self)
    }

    fn descend(&self, pointer: &str) -> u32 {
        let mut tree = self;
        for key in pointer.split('/').skip(1) {
            let Some(child) = tree.child(&key.replace("~1", "/").replace("~0", "~")) else { break };
            tree = child;
        }
        tree.line
    }
}

/// A tree whose own line is not known yet: the key before it, or its place in a list, says it.
pub(crate) struct Unplaced(Content);

impl From<Spanned<Unplaced>> for Tree {
    fn from(read: Spanned<Unplaced>) -> Self {
        Tree { line: line(read.referenced.line()), content: read.value.0 }
    }
}

fn line(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Unplaced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Unplaced)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = vec![];
        while let Some(item) = seq.next_element::<Spanned<Unplaced>>()? {
            items.push(item.into());
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Unplaced>()? {
            fields.insert(key.value, Tree { line: line(key.referenced.line()), content: value.0 });
        }
        Ok(Content::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "\
# a comment
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {}
  ingress:
    - from:
        - podSelector: {}
    # the second
    - ports:
        - port: 80
---
kind: List
items:
  - kind: Service
    metadata: {name: x}
    spec: {}
  - kind: Service
    metadata:
      name: web
    spec:
      ports: [{port: 80}]
";

    #[test]
    fn a_pointer_leads_to_the_line_of_its_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, TEXT).unwrap();
        let mut lines = Lines::default();
        let mut line = |object: &Value, document: u32, pointer: &str| {
            let origin = Origin::File { path: path.to_str().unwrap().into(), line: document };
            match lines.of(object, &origin, pointer) {
                Origin::File { line, .. } => line,
                other => panic!("{other}"),
            }
        };
        let policy = json!({"kind": "NetworkPolicy", "metadata": {"name": "a"}});
        assert_eq!(line(&policy, 2, "/spec/ingress/0"), 7);
        assert_eq!(line(&policy, 2, "/spec/ingress/1"), 10);
        assert_eq!(line(&policy, 2, "/spec/ingress/1/ports/0/port"), 11);
        assert_eq!(line(&policy, 2, "/spec/ingress/2/ports"), 6, "the nearest that is there");
        assert_eq!(line(&policy, 2, "/spec/egress/0"), 4);
        let service = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "default"}});
        assert_eq!(line(&service, 13, "/spec/ports/0"), 22);
    }

    #[test]
    fn the_path_of_a_field_is_a_pointer() {
        assert_eq!(pointer("spec.ingress[0].from[1].ipBlock"), "/spec/ingress/0/from/1/ipBlock");
        assert_eq!(pointer("metadata.labels[app.kubernetes.io/name]"), "/metadata/labels/app.kubernetes.io~1name");
    }

    #[test]
    fn what_cannot_be_read_again_keeps_its_line() {
        let origin = Origin::File { path: "<stdin>".into(), line: 4 };
        assert_eq!(Lines::default().of(&json!({}), &origin, "/spec"), origin);
    }
}
