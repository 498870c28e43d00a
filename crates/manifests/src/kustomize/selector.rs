//! The targets of patches.

use std::collections::BTreeSet;
use std::sync::Arc;

use kilter_model::{Labels, Operator, Requirement, Selector};
use regex::Regex;
use serde_json::Value;

use super::fields::Target;
use super::resource::Resource;

/// A target, ready to match. Names and kinds are regular expressions for the whole text.
pub(super) struct Matcher {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Selector,
    annotations: Selector,
}

impl Matcher {
    pub fn new(target: &Target) -> Result<Self, String> {
        Ok(Self {
            group: whole(&target.group)?,
            version: whole(&target.version)?,
            kind: whole(&target.kind)?,
            name: whole(&target.name)?,
            namespace: whole(&target.namespace)?,
            labels: parse(&target.label_selector)?,
            annotations: parse(&target.annotation_selector)?,
        })
    }

    /// Whether a resource is a target, by its first name or its present one.
    pub fn matches(&self, resource: &Resource) -> bool {
        let (group, version) = resource.group_version();
        let now = resource.id();
        let first = resource.former.first().unwrap_or(&now);
        let fits = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|p| p.is_match(text));
        fits(&self.group, &group)
            && fits(&self.version, &version)
            && fits(&self.kind, resource.kind())
            && (fits(&self.name, &first.name) || fits(&self.name, &now.name))
            && (fits(&self.namespace, first.effective_namespace())
                || fits(&self.namespace, now.effective_namespace()))
            && self.labels.matches(&labels(resource, "labels"))
            && self.annotations.matches(&labels(resource, "annotations"))
    }
}

fn labels(resource: &Resource, field: &str) -> Labels {
    let map = resource.value.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
    let pairs =
        map.into_iter().flatten().filter_map(|(k, v)| Some((Arc::from(k.as_str()), Arc::from(v.as_str()?))));
    pairs.collect()
}

fn whole(pattern: &str) -> Result<Option<Regex>, String> {
    if pattern.is_empty() {
        return Ok(None);
    }
    Regex::new(&format!("^(?:{pattern})$"))
        .map(Some)
        .map_err(|_| format!("{pattern:?} is not a regular expression"))
}

/// A selector in the form of `kubectl -l`: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`.
fn parse(text: &str) -> Result<Selector, String> {
    let mut requirements = vec![];
    for part in split(text) {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        requirements.push(requirement(part).ok_or_else(|| format!("{part:?} is not a label requirement"))?);
    }
    Ok(Selector::new(requirements))
}

/// At commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (vec![], 0, 0_u32);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let one = |value: &str| BTreeSet::from([Arc::from(value.trim())]);
    let (key, operator) = if let Some((key, value)) = part.split_once("!=") {
        (key, Operator::NotIn(one(value)))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (key, Operator::In(one(value)))
    } else if let Some((key, list)) = part.split_once(" notin ") {
        (key, Operator::NotIn(values(list)?))
    } else if let Some((key, list)) = part.split_once(" in ") {
        (key, Operator::In(values(list)?))
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else {
        (part, Operator::Exists)
    };
    let key = key.trim();
    let plain = !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "()!=,".contains(c));
    plain.then(|| Requirement { key: key.into(), operator })
}

fn values(list: &str) -> Option<BTreeSet<Arc<str>>> {
    let inner = list.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|v| Arc::from(v.trim())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_in_text() {
        let selector = parse("a=b, c!=d,e in (f, g),h notin (i),j,!k,l==m").unwrap();
        assert_eq!(selector.to_string(), "a=b,c notin (d),e in (f,g),h notin (i),j,!k,l=m");
        assert!(parse("").unwrap().is_empty());
        for bad in ["a b", "=x", "a in b", "!"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
