//! SARIF 2.1.0 (OASIS), as code scanners take it.

use kilter_model::Origin;
use serde_json::{Value, json};

use crate::{Finding, Fix, RULES, Rule, Severity};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One run with all rules and these findings.
pub fn sarif(findings: &[Finding], version: &str) -> Value {
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "kilter",
                "version": version,
                "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "name": camel(rule.name),
        "shortDescription": {"text": rule.summary},
        "help": {"text": format!("See {} in the repository of Kilter.", rule.page())},
        "defaultConfiguration": {"level": level(rule.severity())},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn result(finding: &Finding) -> Value {
    let mut text = finding.message.clone();
    for connection in &finding.breaks {
        text += &format!("\nBreaks: {connection}");
    }
    for connection in &finding.lets_through {
        text += &format!("\nLets through: {connection}");
    }
    if let Some(fix) = &finding.fix {
        text += &format!("\n{}", fix.to_string().trim());
    }
    let index = RULES.iter().position(|it| it.id == finding.rule.id);
    let mut value = json!({
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": level(finding.rule.severity()),
        "message": {"text": text},
        "locations": location(&finding.origin, &finding.object),
    });
    if let Some(Fix::Replace { origin: Origin::File { path, line }, old, new }) = &finding.fix {
        value["properties"] = json!({"fix": {"file": &**path, "line": line, "old": old, "new": new}});
    }
    value
}

fn location(origin: &Origin, object: &str) -> Value {
    let logical = json!([{"fullyQualifiedName": object}]);
    match origin {
        Origin::File { path, line } => json!([{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(path)},
                "region": {"startLine": (*line).max(1)},
            },
            "logicalLocations": logical,
        }]),
        _ => json!([{"logicalLocations": logical}]),
    }
}

/// A relative reference, or a `file:` URI (RFC 3986).
fn uri(path: &str) -> String {
    let path = path.trim_start_matches("./");
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    let encoded: String = path
        .bytes()
        .map(|it| if plain(&it) { char::from(it).to_string() } else { format!("%{it:02X}") })
        .collect();
    if path.starts_with('/') { format!("file://{encoded}") } else { encoded }
}

/// `policy-selects-nothing` as `PolicySelectsNothing`.
fn camel(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|it| it.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_become_uris() {
        assert_eq!(super::uri("./a b/c.yaml"), "a%20b/c.yaml");
        assert_eq!(super::uri("/x/ä.yaml"), "file:///x/%C3%A4.yaml");
        assert_eq!(super::camel("policy-selects-nothing"), "PolicySelectsNothing");
    }
}
