//! The suffix of generated names: a hash of the content, so that a changed ConfigMap is a new one.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::resource::Resource;

/// Puts the hash on the names of generated ConfigMaps and Secrets.
pub(super) fn add_suffixes(resources: &mut [Resource]) {
    for resource in resources.iter_mut().filter(|r| r.hashed) {
        let name = format!("{}-{}", resource.name(), suffix(&resource.value));
        resource.rename("name", &name);
    }
}

/// Ten characters of the SHA-256 of what kustomize encodes, with digits and vowels replaced that
/// could spell words.
fn suffix(object: &Value) -> String {
    let field = |name: &str| object.get(name).cloned();
    let empty = || Value::String(String::new());
    let mut content: BTreeMap<&str, Value> = BTreeMap::new();
    content.insert("kind", field("kind").unwrap_or_else(empty));
    // Kustomize means to hash the name too, but hashes an empty one.
    content.insert("name", empty());
    content.insert("data", field("data").unwrap_or_else(empty));
    if object["kind"] == "Secret" {
        content.insert("type", field("type").unwrap_or_else(empty));
        content.extend(field("stringData").map(|data| ("stringData", data)));
    } else {
        content.extend(field("binaryData").map(|data| ("binaryData", data)));
    }
    let digest = Sha256::digest(encode(&content));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let letter = |c: char| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    };
    hex.chars().take(10).map(letter).collect()
}

/// JSON as Go writes it: keys sorted; `<`, `>`, `&` and two line separators escaped.
fn encode(content: &BTreeMap<&str, Value>) -> String {
    let fields: Vec<String> = content
        .iter()
        .map(|(key, value)| match value {
            Value::Object(data) => {
                let sorted: BTreeMap<_, _> = data.iter().collect();
                let each: Vec<String> =
                    sorted.into_iter().map(|(k, v)| format!("{}:{}", text(k), go(v))).collect();
                format!("{}:{{{}}}", text(key), each.join(","))
            }
            other => format!("{}:{}", text(key), go(other)),
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn go(value: &Value) -> String {
    match value {
        Value::String(it) => text(it),
        other => other.to_string(),
    }
}

fn text(text: &str) -> String {
    let mut escaped = Value::from(text).to_string();
    for (plain, code) in [
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u{2028}", "\\u2028"),
        ("\u{2029}", "\\u2029"),
    ] {
        escaped = escaped.replace(plain, code);
    }
    escaped
}
