#![allow(dead_code, reason = "each test uses a part")]

use std::path::PathBuf;

use serde_json::Value;

/// The public manifests beside the project; `None`, with a word, where they are absent, which is
/// an error in CI.
pub fn corpus() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus"));
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "the corpus is absent: {}", path.display());
    eprintln!("the corpus is absent: not run");
    None
}

/// This crate's own inputs.
pub fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

/// A value with sorted keys, whatever the map keeps, and text without a last line break: a block
/// of text that ends with the file and has none gets one from the parser, and none from kubectl's.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut each: Vec<_> = fields.iter().map(|(k, v)| format!("{k:?}:{}", canonical(v))).collect();
            each.sort();
            format!("{{{}}}", each.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::String(text) => format!("{:?}", text.strip_suffix('\n').unwrap_or(text)),
        other => other.to_string(),
    }
}
