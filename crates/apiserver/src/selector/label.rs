use std::collections::BTreeSet;
use std::sync::Arc;

use kilter_model::{Labels, Operator, Requirement, Selector};

use crate::status::Status;

/// `labelSelector`: the model's operators, and the two that only this string form has.
#[derive(Debug, Clone, Default)]
pub struct LabelSelector {
    selector: Selector,
    comparisons: Vec<Comparison>,
}

/// `key > n` or `key < n`; a label that is absent or no integer does not match.
#[derive(Debug, Clone)]
struct Comparison {
    key: String,
    greater: bool,
    than: i64,
}

impl LabelSelector {
    /// Reads the form that `kubectl -l` takes.
    ///
    /// # Errors
    /// 400 with the place that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut parser = Parser { rest: text.trim() };
        let (mut requirements, mut comparisons) = (Vec::new(), Vec::new());
        while !parser.rest.is_empty() {
            match parser.requirement().map_err(|why| unreadable(&why))? {
                Parsed::Requirement(it) => requirements.push(it),
                Parsed::Comparison(it) => comparisons.push(it),
            }
            if !parser.rest.is_empty() && !parser.take(",") {
                return Err(unreadable(&format!(
                    "found '{}', expected: ',' or 'end of string'",
                    parser.rest
                )));
            }
        }
        Ok(Self { selector: Selector::new(requirements), comparisons })
    }

    /// Whether there is nothing to satisfy.
    pub fn is_empty(&self) -> bool {
        self.selector.is_empty() && self.comparisons.is_empty()
    }

    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.selector.matches(labels)
            && self.comparisons.iter().all(|c| {
                let value = labels.get(c.key.as_str()).and_then(|v| v.parse::<i64>().ok());
                value.is_some_and(|v| if c.greater { v > c.than } else { v < c.than })
            })
    }
}

fn unreadable(why: &str) -> Status {
    Status::bad_request(format!("unable to parse requirement: {why}"))
}

enum Parsed {
    Requirement(Requirement),
    Comparison(Comparison),
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        let end =
            self.rest.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn requirement(&mut self) -> Result<Parsed, String> {
        let negated = self.take("!");
        let key: Arc<str> = checked_key(self.word())?.into();
        let exists = if negated { Operator::DoesNotExist } else { Operator::Exists };
        if negated || self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(Parsed::Requirement(Requirement { key, operator: exists }));
        }
        for (token, greater) in [(">", true), ("<", false)] {
            if self.take(token) {
                let word = self.word();
                let than = word.parse().map_err(|_| format!("values[0]: Invalid value: {word:?}: for 'Gt', 'Lt' operators, the value must be an integer"))?;
                return Ok(Parsed::Comparison(Comparison { key: key.to_string(), greater, than }));
            }
        }
        let operator = if self.take("!=") {
            Operator::NotIn(BTreeSet::from([checked_value(self.word())?]))
        } else if self.take("==") || self.take("=") {
            Operator::In(BTreeSet::from([checked_value(self.word())?]))
        } else {
            match self.word() {
                "in" => Operator::In(self.values()?),
                "notin" => Operator::NotIn(self.values()?),
                other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
            }
        };
        Ok(Parsed::Requirement(Requirement { key, operator }))
    }

    fn values(&mut self) -> Result<BTreeSet<Arc<str>>, String> {
        if !self.take("(") {
            return Err(format!("found '{}', expected: '('", self.rest));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(checked_value(self.word())?);
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err(format!("found '{}', expected: ',', or ')'", self.rest));
            }
        }
    }
}

/// A qualified name: an optional DNS prefix and a name part of at most 63 characters.
fn checked_key(key: &str) -> Result<&str, String> {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("a", key));
    let prefix_ok = !prefix.is_empty() && prefix.len() <= 253 && !prefix.contains('/');
    if !name.is_empty() && is_label_text(name) && prefix_ok {
        return Ok(key);
    }
    Err(format!(
        "<nil>: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    ))
}

fn checked_value(value: &str) -> Result<Arc<str>, String> {
    if is_label_text(value) {
        return Ok(value.into());
    }
    Err(format!(
        "values[0]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    ))
}

fn is_label_text(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.chars().all(inner)
        && text.chars().next().is_none_or(edge)
        && text.chars().last().is_none_or(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
    }

    #[test]
    fn every_operator_matches_as_in_kubernetes() {
        let pod = labels(&[("app", "web"), ("tier", ""), ("example.com/size", "12")]);
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            (" app = web , tier= ", true),
            ("app!=web", false),
            ("missing!=web", true),
            ("app in (web, db)", true),
            ("app in (db)", false),
            ("app notin (db),app", true),
            ("missing notin (db)", true),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("example.com/size>11,example.com/size<13", true),
            ("example.com/size > 12", false),
            ("app>1", false),
            ("tier in (,x)", true),
        ];
        for (text, expected) in cases {
            assert_eq!(LabelSelector::parse(text).expect(text).matches(&pod), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "app in web",
            "app in (web",
            "=web",
            "app ~ web",
            "a b",
            "app=we b",
            "-app=x",
            "app=-x",
            "a>b",
            "app=web=x",
            "/x",
        ] {
            let status = LabelSelector::parse(text).expect_err(text);
            assert_eq!(status.code, 400, "{text}");
        }
    }
}
