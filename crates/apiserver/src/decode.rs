//! From the bytes of a request to an object of the right kind.

mod duplicates;
mod prune;

use kilter_objects::FieldError;
use kilter_objects::custom::Structural;
use serde_json::Value;

use crate::custom;
use crate::request::FieldValidation;
use crate::resources::Resource;
use crate::status::Status;
use crate::views;

/// JSON of any kind, with the paths of fields that appear twice.
///
/// # Errors
/// 400 for what is no JSON.
pub fn json(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    duplicates::parse(bytes)
        .map_err(|e| Status::bad_request(format!("the body of the request is not valid JSON: {e}")))
}

/// YAML or JSON of any kind, as [`json`]. A key twice in one mapping of YAML is an error.
///
/// # Errors
/// 400 for what is neither.
pub fn yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    if bytes.trim_ascii_start().first().is_none_or(|b| *b == b'{') {
        return json(bytes);
    }
    let refuse = |why: &dyn std::fmt::Display| {
        Status::bad_request(format!("the body of the request is not valid YAML: {why}"))
    };
    let text = std::str::from_utf8(bytes).map_err(|e| refuse(&e))?;
    // YAML 1.1, as Kubernetes reads it; deeper than any object, and shallow enough for the stack.
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 128 },
    };
    let value = serde_saphyr::from_str_with_options(text, options).map_err(|e| refuse(&e))?;
    Ok((value, vec![]))
}

/// Makes an object of `resource`, in its stored form, from what a client sent: right kind, no
/// unknown fields, no nulls. Answers the warnings that the client should see.
///
/// # Errors
/// 400 for another kind, for a field of another type than the kind's, and for unknown or repeated fields under strict validation.
pub fn object(
    resource: &Resource,
    value: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let kind = resource.kind;
    if !value.is_object() {
        return Err(Status::bad_request(format!("the body of the request is not a {}", kind.kind)));
    }
    let api_version = kind.api_version();
    expect(value, "apiVersion", &api_version, resource)?;
    expect(value, "kind", kind.kind, resource)?;
    if !matches!(value.get("metadata"), None | Some(Value::Null | Value::Object(_))) {
        return Err(Status::bad_request("metadata must be an object"));
    }
    if !value["metadata"].is_object() {
        value["metadata"] = Value::Object(Default::default());
    }
    *value = views::to_storage(resource, value.take());
    let cannot = |why: &dyn std::fmt::Display| {
        Status::bad_request(format!(
            "{0} in version \"{1}\" cannot be handled as a {0}: {why}",
            kind.kind, kind.version
        ))
    };
    let unknown = match &resource.custom {
        Some(custom) => custom_fields(&custom.now().structural, value).map_err(|misfit| cannot(&misfit))?,
        None => {
            prune::nulls(value);
            let unknown = kilter_objects::fit(value).map_err(|misfit| cannot(&misfit))?;
            for path in &unknown {
                prune::remove(value, path);
            }
            unknown
        }
    };
    let problems = unknown.iter().map(|p| format!("unknown field {p:?}"));
    let problems: Vec<String> =
        problems.chain(duplicates.iter().map(|p| format!("duplicate field {p:?}"))).collect();
    match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            Err(cannot(&format_args!("strict decoding error: {}", problems.join(", "))))
        }
        FieldValidation::Warn => Ok(custom::warnings(resource, value).into_iter().chain(problems).collect()),
        _ => Ok(custom::warnings(resource, value)),
    }
}

/// Prunes an object of a custom resource: its metadata as everybody's, the rest by its schema.
fn custom_fields(structural: &Structural, value: &mut Value) -> Result<Vec<String>, FieldError> {
    prune::nulls(&mut value["metadata"]);
    let metadata = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": value["metadata"]});
    let mut unknown = kilter_objects::fit(&metadata)?;
    for path in &unknown {
        prune::remove(value, path);
    }
    unknown.extend(structural.prune(value));
    Ok(unknown)
}

/// A field that must have one value, and has it when absent.
fn expect(value: &mut Value, field: &str, expected: &str, resource: &Resource) -> Result<(), Status> {
    match value.get(field).and_then(Value::as_str) {
        None | Some("") => {
            value[field] = expected.into();
            Ok(())
        }
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(Status::bad_request(format!(
            "the {field} in the data ({found}) does not match what this URL takes ({expected}, {})",
            resource.group_resource()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
        let (mut value, duplicates) = json(text.as_bytes())?;
        let resource = Resource::find("apps", "v1", "deployments").expect("served");
        let warnings = object(resource, &mut value, &duplicates, validation)?;
        Ok((value, warnings))
    }

    const TWICE: &str =
        r#"{"metadata":{"name":"x","labls":{}},"spec":{"replicas":1,"replicas":2,"paused":null}}"#;

    #[test]
    fn unknown_and_repeated_fields_are_refused_or_reported_and_dropped() {
        let strict = decode(TWICE, FieldValidation::Strict).expect_err("strict");
        assert_eq!(
            strict.message,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
             unknown field \"metadata.labls\", duplicate field \"spec.replicas\""
        );
        let (value, warnings) = decode(TWICE, FieldValidation::Warn).expect("warns");
        assert_eq!(warnings, ["unknown field \"metadata.labls\"", "duplicate field \"spec.replicas\""]);
        assert_eq!(value["apiVersion"], "apps/v1");
        assert_eq!(value["spec"], serde_json::json!({"replicas": 2}));
        assert!(value["metadata"].get("labls").is_none());
        assert!(decode(TWICE, FieldValidation::Ignore).expect("ignores").1.is_empty());
    }

    #[test]
    fn other_kinds_and_other_things_are_refused() {
        for text in [r#"{"kind":"Pod"}"#, r#"{"apiVersion":"v1"}"#, "[]", "1", "{", r#"{"metadata":"x"}"#] {
            assert_eq!(decode(text, FieldValidation::Ignore).expect_err(text).code, 400, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(decode(&deep, FieldValidation::Ignore).expect_err("deep").code, 400);
    }
}
