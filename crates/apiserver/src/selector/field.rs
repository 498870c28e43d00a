use crate::resources::Resource;
use crate::status::Status;
use crate::store::Object;

/// `fieldSelector`: all terms must hold.
#[derive(Debug, Clone, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Indexed(usize),
}

impl FieldSelector {
    /// Reads `a=1,b!=2`; `\` keeps the character after it from meaning anything.
    ///
    /// # Errors
    /// 400 where it cannot be read, or names a field by which this resource cannot be selected.
    pub fn parse(resource: &Resource, text: &str) -> Result<Self, Status> {
        let mut terms = Vec::new();
        for term in split(text) {
            let unreadable =
                || Status::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'"));
            let (field, value, equal) = halves(&term).ok_or_else(unreadable)?;
            let value = unescape(value).ok_or_else(unreadable)?;
            let field = match field {
                "metadata.name" => Field::Name,
                "metadata.namespace" if resource.kind.namespaced => Field::Namespace,
                other => match resource.field_index(other) {
                    Some(index) => Field::Indexed(index),
                    None => return Err(Status::bad_request(format!("field label not supported: {other}"))),
                },
            };
            terms.push(Term { field, value, equal });
        }
        Ok(Self { terms })
    }

    /// Whether there is nothing to satisfy.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object satisfies every term.
    pub fn matches(&self, object: &Object) -> bool {
        self.terms.iter().all(|term| {
            let found: &str = match term.field {
                Field::Name => &object.key.name,
                Field::Namespace => &object.key.namespace,
                Field::Indexed(index) => &object.fields[index],
            };
            (found == term.value) == term.equal
        })
    }

    /// The name that it requires, if it requires one.
    pub fn name(&self) -> Option<&str> {
        self.required(Field::Name)
    }

    /// The namespace that it requires, if it requires one.
    pub fn namespace(&self) -> Option<&str> {
        self.required(Field::Namespace)
    }

    fn required(&self, field: Field) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }
}

/// Splits at commas that are not escaped; empty terms do not count.
fn split(text: &str) -> Vec<String> {
    let (mut terms, mut term, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(std::mem::take(&mut term));
            continue;
        }
        escaped = c == '\\' && !escaped;
        term.push(c);
    }
    terms.push(term);
    terms.retain(|t| !t.is_empty());
    terms
}

fn halves(term: &str) -> Option<(&str, &str, bool)> {
    let at = term.find(['=', '!'])?;
    let (field, rest) = term.split_at(at);
    let (value, equal) = match rest.strip_prefix("!=") {
        Some(value) => (value, false),
        None => (rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?, true),
    };
    Some((field, value, equal))
}

/// `None` where a bare `=` or `,`, or an escape of anything but `\`, `,` and `=` appears.
fn unescape(value: &str) -> Option<String> {
    let (mut out, mut chars) = (String::new(), value.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str) -> Object {
        let value = json!({"metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": {"nodeName": node}, "status": {"phase": "Running"}});
        Object::new(Resource::core("pods"), value, 1)
    }

    fn parse(text: &str) -> Result<FieldSelector, Status> {
        FieldSelector::parse(Resource::core("pods"), text)
    }

    #[test]
    fn terms_are_compared_with_the_indexed_fields() {
        let cases = [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name==web,metadata.namespace=shop", true),
            ("metadata.name!=web", false),
            ("spec.nodeName=node-1,status.phase!=Failed,status.phase!=Succeeded", true),
            ("spec.nodeName=", false),
            ("spec.hostNetwork=false", true),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).expect(text).matches(&pod("web", "node-1")), expected, "{text}");
        }
        assert!(parse("spec.nodeName=").expect("readable").matches(&pod("web", "")));
    }

    #[test]
    fn escapes_are_undone() {
        let selector = parse(r"metadata.name=a\,b\=c\\d").expect("readable");
        assert_eq!(selector.name(), Some(r"a,b=c\d"));
    }

    #[test]
    fn what_cannot_be_selected_by_is_refused() {
        assert_eq!(parse("spec.foo=1").expect_err("unknown").message, "field label not supported: spec.foo");
        for text in ["metadata.name", "metadata.name=a=b", r"metadata.name=a\b", "=x"] {
            assert_eq!(parse(text).expect_err(text).code, 400, "{text}");
        }
        let nodes = FieldSelector::parse(Resource::core("nodes"), "metadata.namespace=x");
        assert_eq!(nodes.expect_err("no namespace").code, 400);
    }
}
