//! `transformers`: the built-in ones that take their configuration from a file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::context::Context;
use super::fields::FieldSpec;
use super::file::{Field, typed};
use super::metadata;
use super::resource::Resource;
use crate::{Error, yaml};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Labels {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: Value,
    #[serde(default, alias = "annotations")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    field_specs: Vec<FieldSpec>,
}

/// Applies the transformers that the files configure.
pub(super) fn apply(
    context: &Context,
    resources: &mut [Resource],
    files: &Field<Vec<String>>,
) -> Result<(), Error> {
    for name in &files.value {
        let (path, bytes) = context.read(files.line, "transformers", name)?;
        for document in yaml::documents(&path.display().to_string(), &bytes)? {
            transform(context, resources, files.line, name, document.value)?;
        }
    }
    Ok(())
}

fn transform(
    context: &Context,
    resources: &mut [Resource],
    line: u64,
    name: &str,
    value: Value,
) -> Result<(), Error> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("builtin", "LabelTransformer" | "AnnotationsTransformer") => {
            let it: Labels = typed(context, line, "transformers", value)?;
            metadata::at_fields(resources, &it.field_specs, &it.labels);
            Ok(())
        }
        (api_version, kind) => {
            let message = format!(
                "{name}: {api_version} {kind} is not supported; Kilter knows the builtin LabelTransformer and \
                 AnnotationsTransformer"
            );
            Err(context.error(line, "transformers", message))
        }
    }
}
