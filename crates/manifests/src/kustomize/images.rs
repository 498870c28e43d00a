//! Images and replica counts.

use serde_json::Value;

use super::context::Context;
use super::fields::{Image, Replicas};
use super::file::Field;
use super::resource::Resource;
use crate::Error;

/// Rewrites the images of all containers, wherever a kind keeps them. CustomResourceDefinitions
/// are left alone: their `containers` are schemas.
pub(super) fn images(resources: &mut [Resource], images: &[Image]) {
    if images.is_empty() {
        return;
    }
    for resource in resources.iter_mut().filter(|r| r.kind() != "CustomResourceDefinition") {
        each_container(&mut resource.value, &mut |image| {
            for rule in images {
                if let Some(renamed) = renamed(image, rule) {
                    *image = renamed;
                }
            }
        });
    }
}

fn each_container(value: &mut Value, f: &mut dyn FnMut(&mut String)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if ["containers", "initContainers"].contains(&key.as_str())
                    && let Value::Array(containers) = value
                {
                    for container in containers {
                        if let Some(Value::String(image)) = container.get_mut("image") {
                            f(image);
                        }
                    }
                } else {
                    each_container(value, f);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_container(item, f)),
        _ => {}
    }
}

/// The image after a rule; `None` when the rule is about another image.
fn renamed(image: &str, rule: &Image) -> Option<String> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, digest),
        None => (image, ""),
    };
    let tag_at = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = tag_at.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
    if name != rule.name {
        return None;
    }
    let name = if rule.new_name.is_empty() { name } else { &rule.new_name };
    // A new tag or digest replaces both.
    let (tag, digest) = match (rule.new_tag.as_str(), rule.digest.as_str(), rule.tag_suffix.as_str()) {
        ("", "", "") => (tag.to_owned(), digest),
        ("", "", suffix) => (format!("{tag}{suffix}"), ""),
        (new, digest, _) => (new.to_owned(), digest),
    };
    let tag = if tag.is_empty() { tag } else { format!(":{tag}") };
    let digest = if digest.is_empty() { String::new() } else { format!("@{digest}") };
    Some(format!("{name}{tag}{digest}"))
}

/// Sets replica counts by the workload's name, its original one or its present one.
pub(super) fn replicas(
    context: &Context,
    resources: &mut [Resource],
    counts: &Field<Vec<Replicas>>,
) -> Result<(), Error> {
    const KINDS: &[&str] = &["Deployment", "ReplicationController", "ReplicaSet", "StatefulSet"];
    for rule in &counts.value {
        let mut found = false;
        for resource in resources.iter_mut().filter(|r| KINDS.contains(&r.kind())) {
            if resource.ids().any(|id| id.name == rule.name) {
                super::paths::visit(&mut resource.value, "spec", true, &mut |spec| {
                    if let Value::Object(fields) = spec {
                        fields.insert("replicas".into(), rule.count.into());
                    }
                });
                found = true;
            }
        }
        if !found {
            let message = format!("no workload with replicas is named {:?}", rule.name);
            return Err(context.error(counts.line, "replicas", message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(new_name: &str, new_tag: &str, digest: &str, tag_suffix: &str) -> Image {
        Image {
            name: "host:5000/a".into(),
            new_name: new_name.into(),
            new_tag: new_tag.into(),
            digest: digest.into(),
            tag_suffix: tag_suffix.into(),
        }
    }

    #[test]
    fn images_are_renamed() {
        let image = "host:5000/a:1@sha256:ab";
        for (rule, expected) in [
            (rule("b", "", "", ""), "b:1@sha256:ab"),
            (rule("", "2", "", ""), "host:5000/a:2"),
            (rule("", "", "sha256:cd", ""), "host:5000/a@sha256:cd"),
            (rule("b", "2", "sha256:cd", ""), "b:2@sha256:cd"),
            (rule("", "", "", "-x"), "host:5000/a:1-x"),
        ] {
            assert_eq!(renamed(image, &rule).as_deref(), Some(expected));
        }
        assert_eq!(renamed("host:5000/ab:1", &rule("b", "", "", "")), None);
        assert_eq!(renamed("host:5000/a", &rule("b", "", "", "")).as_deref(), Some("b"));
    }
}
