//! The JSON paths of definitions: printer columns, scale, selectable fields.

use serde_json::Value;

/// A path such as `.spec.replicas` or `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    /// Every item, or every field's value.
    All,
    /// The items in which this path leads to this text, or number.
    Where(Vec<String>, String),
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// What cannot be read of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        if !rest.starts_with(['.', '[']) {
            return Err(format!("{text:?} does not begin with a dot"));
        }
        let mut steps = vec![];
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let end = closing(after).ok_or_else(|| format!("{text:?} has a bracket that is not closed"))?;
                steps.push(bracket(&after[..end]).ok_or_else(|| format!("{text:?} has [{}], which is not understood", &after[..end]))?);
                rest = &after[end + 1..];
            } else if let Some(after) = rest.strip_prefix('.') {
                let (name, after) = name(after);
                match name.as_str() {
                    "" if after.starts_with('[') => {}
                    "" => return Err(format!("{text:?} has an empty step")),
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(name)),
                }
                rest = after;
            } else {
                return Err(format!("{text:?} has {rest:?}, which is not understood"));
            }
        }
        Ok(Self(steps))
    }

    /// What it leads to.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
        }
        found
    }

    /// Its steps, where all of them are fields.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.0.iter().map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }

    /// Sets what it leads to, made on the way where it is absent. `false` where it is no plain path,
    /// or something else is in the way.
    pub fn set(&self, value: &mut Value, new: Value) -> bool {
        let Some(fields) = self.fields() else { return false };
        let mut at = value;
        for field in fields {
            if at.is_null() {
                *at = Value::Object(Default::default());
            }
            let Some(map) = at.as_object_mut() else { return false };
            at = map.entry(field).or_insert(Value::Null);
        }
        *at = new;
        true
    }
}

impl Step {
    fn take<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let index = if *index < 0 { index + items.len() as i64 } else { *index };
                usize::try_from(index).ok().and_then(|i| items.get(i)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Where(path, wanted), Value::Array(items)) => {
                let is = |item: &&Value| {
                    let found = path.iter().try_fold(*item, |v, step| v.get(step));
                    found.is_some_and(|v| v.as_str().map_or_else(|| v.to_string() == *wanted, |t| t == wanted))
                };
                items.iter().filter(is).collect()
            }
            _ => vec![],
        }
    }
}

/// A name up to the next step, with `\.` for a dot in it.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (name, &text[at..]),
            _ => name.push(letter),
        }
    }
    (name, "")
}

/// Where a bracket ends; one in quotes does not count.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str) -> Option<&str> {
    let quoted = |mark: char| text.strip_prefix(mark).and_then(|t| t.strip_suffix(mark));
    quoted('\'').or_else(|| quoted('"'))
}

fn bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(text) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        let (path, wanted) = filter.split_once("==")?;
        let steps = path.trim().strip_prefix("@.")?;
        let wanted = wanted.trim();
        let steps = steps.split('.').map(str::to_owned).collect();
        return Some(Step::Where(steps, unquoted(wanted).unwrap_or(wanted).to_owned()));
    }
    text.parse().ok().map(Step::Index)
}
