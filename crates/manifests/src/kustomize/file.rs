use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::Context;
use super::fields::{Generator, GeneratorOptions, Image, Json6902, LabelSet, Patch, Replicas};
use crate::Error;
use crate::yaml::{self, Located};

/// A kustomization file, read. Each list knows the line of its field.
#[derive(Debug, Default)]
pub(super) struct Kustomization {
    pub component: bool,
    pub resources: Field<Vec<String>>,
    pub components: Field<Vec<String>>,
    pub transformers: Field<Vec<String>>,
    pub namespace: Field<String>,
    pub name_prefix: Field<String>,
    pub name_suffix: Field<String>,
    pub labels: Field<Vec<LabelSet>>,
    pub common_labels: Field<BTreeMap<String, String>>,
    pub common_annotations: Field<BTreeMap<String, String>>,
    pub patches: Field<Vec<Patch>>,
    pub patches_strategic_merge: Field<Vec<String>>,
    pub patches_json6902: Field<Vec<Json6902>>,
    pub images: Field<Vec<Image>>,
    pub replicas: Field<Vec<Replicas>>,
    pub config_maps: Field<Vec<Generator>>,
    pub secrets: Field<Vec<Generator>>,
    pub generator_options: Field<GeneratorOptions>,
}

/// A field's value and line.
#[derive(Debug, Default)]
pub(super) struct Field<T> {
    pub value: T,
    pub line: u64,
}

/// Fields that kustomize has and this version has not.
const UNSUPPORTED: &[&str] = &[
    "replacements",
    "vars",
    "crds",
    "configurations",
    "generators",
    "validators",
    "helmCharts",
    "helmGlobals",
    "helmChartInflationGenerator",
    "openapi",
    "buildMetadata",
    "imageTags",
];

/// Reads a kustomization file.
pub(super) fn read(file: &Path) -> Result<(Context, Kustomization), Error> {
    let context = Context::new(file);
    let bytes = std::fs::read(file).map_err(|source| Error::Read { path: file.to_owned(), source })?;
    let fields = yaml::located_fields(&file.display().to_string(), &bytes)?;
    let mut result = Kustomization { component: kind(&context, &fields)?, ..Default::default() };
    for (name, field) in fields {
        set(&context, &mut result, &name, field)?;
    }
    Ok((context, result))
}

/// Whether the file is a Component; it may leave out what it is, as kustomize allows.
fn kind(context: &Context, fields: &BTreeMap<String, Located>) -> Result<bool, Error> {
    let text = |name: &str| fields.get(name).and_then(|f| f.value.as_str()).unwrap_or_default();
    let line = fields.get("kind").map_or(0, |f| f.line);
    let component = match text("kind") {
        "" | "Kustomization" => false,
        "Component" => true,
        other => return Err(context.error(line, "kind", format!("{other:?}: Kustomization or Component"))),
    };
    let expected =
        if component { "kustomize.config.k8s.io/v1alpha1" } else { "kustomize.config.k8s.io/v1beta1" };
    match text("apiVersion") {
        "" => Ok(component),
        version if version == expected => Ok(component),
        version => {
            let line = fields.get("apiVersion").map_or(0, |f| f.line);
            Err(context.error(line, "apiVersion", format!("{version:?} should be {expected:?}")))
        }
    }
}

fn set(context: &Context, into: &mut Kustomization, name: &str, field: Located) -> Result<(), Error> {
    let line = field.line;
    // A field without a value is as good as absent.
    if field.value.is_null() {
        return Ok(());
    }
    match name {
        // `sortOptions` orders the output, which has no meaning here.
        "apiVersion" | "kind" | "metadata" | "sortOptions" => {}
        // `bases` is the former name of directories among `resources`.
        "resources" | "bases" => {
            let mut more: Field<Vec<String>> = parse(context, name, field)?;
            into.resources.line = line;
            into.resources.value.append(&mut more.value);
        }
        "components" => into.components = parse(context, name, field)?,
        "transformers" => into.transformers = parse(context, name, field)?,
        "namespace" => into.namespace = parse(context, name, field)?,
        "namePrefix" => into.name_prefix = parse(context, name, field)?,
        "nameSuffix" => into.name_suffix = parse(context, name, field)?,
        "labels" => into.labels = parse(context, name, field)?,
        "commonLabels" => into.common_labels = parse(context, name, field)?,
        "commonAnnotations" => into.common_annotations = parse(context, name, field)?,
        "patches" => into.patches = parse(context, name, field)?,
        "patchesStrategicMerge" => into.patches_strategic_merge = parse(context, name, field)?,
        "patchesJson6902" => into.patches_json6902 = parse(context, name, field)?,
        "images" => into.images = parse(context, name, field)?,
        "replicas" => into.replicas = parse(context, name, field)?,
        "configMapGenerator" => into.config_maps = parse(context, name, field)?,
        "secretGenerator" => into.secrets = parse(context, name, field)?,
        "generatorOptions" => into.generator_options = parse(context, name, field)?,
        _ if UNSUPPORTED.contains(&name) => {
            let advice =
                "Kilter does not support this field; build with kustomize and pass its output (-f -)";
            return Err(context.error(line, name, advice));
        }
        _ => return Err(context.error(line, name, "kustomize has no such field")),
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(context: &Context, name: &str, field: Located) -> Result<Field<T>, Error> {
    let value = T::deserialize(field.value).map_err(|e| context.error(field.line, name, e.to_string()))?;
    Ok(Field { value, line: field.line })
}

/// Reads part of a file as a type, as [`parse`] does a field.
pub(super) fn typed<T: DeserializeOwned>(
    context: &Context,
    line: u64,
    name: &str,
    value: Value,
) -> Result<T, Error> {
    parse(context, name, Located { value, line }).map(|f| f.value)
}
