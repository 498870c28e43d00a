//! YAML and JSON text to values, with the rules that kubectl reads by.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::error::{Error, Place};
use crate::lines::{Tree, Unplaced};

/// A document and the 1-based line on which it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub value: Value,
    pub line: u32,
}

/// The documents of a file, empty ones left out. JSON is read as the YAML that it is.
///
/// YAML 1.1 as Kubernetes reads it: `yes` and `on` are booleans, `0644` is octal. A key twice in
/// one mapping is an error.
pub(crate) fn documents(path: &str, bytes: &[u8]) -> Result<Vec<Document>, Error> {
    let text = text(path, bytes)?;
    let read: Vec<Spanned<Value>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| syntax(path, &e))?;
    Ok(read
        .into_iter()
        .map(|d| Document { line: u32::try_from(d.referenced.line()).unwrap_or(u32::MAX), value: d.value })
        .collect())
}

/// The documents' shapes, with the line of every field.
pub(crate) fn trees(path: &str, bytes: &[u8]) -> Result<Vec<Tree>, Error> {
    let text = text(path, bytes)?;
    let read: Vec<Spanned<Unplaced>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| syntax(path, &e))?;
    Ok(read.into_iter().map(Tree::from).collect())
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        // Depth: far deeper than any manifest, and shallow enough for any stack. Everything else is as
        // large as the file itself; only aliases multiply, and their own limits stand.
        budget: serde_saphyr::budget! {
            max_depth: 256,
            max_documents: usize::MAX,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
    }
}

/// A value and the 1-based line on which it, or the key before it, stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located {
    pub value: Value,
    pub line: u64,
}

/// The fields of a file that is one mapping, with their lines.
pub(crate) fn located_fields(path: &str, bytes: &[u8]) -> Result<BTreeMap<String, Located>, Error> {
    let text = text(path, bytes)?;
    let mut read: Vec<Fields> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| syntax(path, &e))?;
    if read.len() > 1 {
        let place = Place { path: path.to_owned(), line: 0, column: 0 };
        return Err(Error::Syntax { place, message: "expected one document".into() });
    }
    Ok(read.pop().map_or_else(BTreeMap::new, |fields| fields.0))
}

/// A mapping whose keys' lines are kept.
struct Fields(BTreeMap<String, Located>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Value>()? {
            fields.insert(key.value, Located { value, line: key.referenced.line() });
        }
        Ok(Fields(fields))
    }
}

fn text<'a>(path: &str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = &bytes[..e.valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() as u64 + 1;
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() as u64 + 1;
        let place = Place { path: path.to_owned(), line, column };
        Error::Syntax { place, message: "not UTF-8 text".into() }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn syntax(path: &str, error: &serde_saphyr::Error) -> Error {
    let (line, column) = error.location().map_or((0, 0), |l| (l.line(), l.column()));
    let place = Place { path: path.to_owned(), line, column };
    Error::Syntax { place, message: message(error) }
}

/// The parser's message without the position, which stands before it already, and without advice
/// about the parser's own settings.
fn message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error::{DuplicateMappingKey, NonFiniteFloat};
    let text = match error.without_snippet() {
        DuplicateMappingKey { key: Some(key), .. } => {
            return format!("the key {key} is already in this mapping");
        }
        DuplicateMappingKey { key: None, .. } => return "this key is already in this mapping".into(),
        NonFiniteFloat { .. } => return "infinity and NaN are not numbers that JSON can carry".into(),
        other => other.to_string(),
    };
    let first = text.lines().next().unwrap_or_default();
    let end = error.location().and_then(|l| first.find(&format!(" at line {}", l.line())));
    first[..end.unwrap_or(first.len())].trim_end_matches([':', ',', ' ']).to_owned()
}
