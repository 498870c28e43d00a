use std::path::{Path, PathBuf};

use super::context::Context;
use super::file::{self, Kustomization};
use super::resource::Resource;
use super::{Built, find, generators, hash, images, metadata, names, patches, references, transformers};
use crate::{Error, Object, load, source};

pub(super) fn build(path: &Path, before: &[Object]) -> Result<Built, Error> {
    let (context, kustomization) = file::read(path)?;
    let component = kustomization.component;
    let before = if component { before.iter().cloned().map(Resource::new).collect() } else { vec![] };
    let mut builder = Builder { stack: vec![] };
    let mut resources = builder.accumulate(&context, kustomization, before)?;
    // Names change once more, and for good, only when all kustomizations have had their say.
    hash::add_suffixes(&mut resources);
    references::fix(&context, &mut resources)?;
    let objects = resources.into_iter().map(Resource::into_object).collect();
    Ok(if component { Built::Changed(objects) } else { Built::Objects(objects) })
}

struct Builder {
    /// The directories being built, outermost first: a kustomization may not contain itself.
    stack: Vec<PathBuf>,
}

impl Builder {
    /// What a kustomization makes of `resources`, which is empty but for Components. The order of
    /// the steps is kustomize's own.
    fn accumulate(
        &mut self,
        context: &Context,
        it: Kustomization,
        mut resources: Vec<Resource>,
    ) -> Result<Vec<Resource>, Error> {
        self.enter(context)?;
        for name in &it.resources.value {
            let more = self.resource(context, it.resources.line, name)?;
            add(context, it.resources.line, &mut resources, more)?;
        }
        for name in &it.components.value {
            resources = self.component(context, it.components.line, name, resources)?;
        }
        let options = &it.generator_options.value;
        generators::run(context, &mut resources, "ConfigMap", &it.config_maps, options)?;
        generators::run(context, &mut resources, "Secret", &it.secrets, options)?;
        patches::strategic_merge(context, &mut resources, &it.patches_strategic_merge)?;
        patches::patches(context, &mut resources, &it.patches)?;
        names::namespace(&mut resources, &it.namespace.value);
        names::affixes(&mut resources, &it.name_prefix.value, &it.name_suffix.value);
        for set in &it.labels.value {
            metadata::labels(&mut resources, set);
        }
        metadata::common_labels(&mut resources, &it.common_labels.value);
        metadata::annotations(&mut resources, &it.common_annotations.value);
        patches::json6902(context, &mut resources, &it.patches_json6902)?;
        images::replicas(context, &mut resources, &it.replicas)?;
        images::images(&mut resources, &it.images.value);
        transformers::apply(context, &mut resources, &it.transformers)?;
        self.stack.pop();
        Ok(resources)
    }

    fn enter(&mut self, context: &Context) -> Result<(), Error> {
        let real = context.folder.canonicalize();
        let real = real.map_err(|source| Error::Read { path: context.folder.clone(), source })?;
        if self.stack.contains(&real) {
            return Err(context.error(0, "resources", "this kustomization contains itself"));
        }
        self.stack.push(real);
        Ok(())
    }

    /// An entry of `resources`: a file, or a directory with a kustomization.
    fn resource(&mut self, context: &Context, line: u64, name: &str) -> Result<Vec<Resource>, Error> {
        let path = local(context, line, "resources", name)?;
        if !path.is_dir() {
            let (path, bytes) = context.read(line, "resources", name)?;
            let objects = load::parse(&path.display().to_string(), &bytes)?;
            return Ok(objects.into_iter().map(Resource::new).collect());
        }
        let (inner, kustomization) = file::read(&kustomization_in(context, line, "resources", name, &path)?)?;
        if kustomization.component {
            let message = format!("{name} is a Component; it belongs under components");
            return Err(context.error(line, "resources", message));
        }
        self.accumulate(&inner, kustomization, vec![])
    }

    fn component(
        &mut self,
        context: &Context,
        line: u64,
        name: &str,
        resources: Vec<Resource>,
    ) -> Result<Vec<Resource>, Error> {
        let path = local(context, line, "components", name)?;
        let (inner, kustomization) =
            file::read(&kustomization_in(context, line, "components", name, &path)?)?;
        if !kustomization.component {
            let message = format!("{name} is a Kustomization; it belongs under resources");
            return Err(context.error(line, "components", message));
        }
        self.accumulate(&inner, kustomization, resources)
    }
}

fn local(context: &Context, line: u64, field: &str, name: &str) -> Result<PathBuf, Error> {
    if source::is_remote(name) {
        let advice = "remote sources are not supported yet; clone the repository and name the local path";
        return Err(context.error(line, field, format!("{name}: {advice}")));
    }
    Ok(context.beside(name))
}

fn kustomization_in(
    context: &Context,
    line: u64,
    field: &str,
    name: &str,
    path: &Path,
) -> Result<PathBuf, Error> {
    if !path.exists() {
        return Err(context.error(line, field, format!("{name}: no such file or directory")));
    }
    find(path)
        .ok_or_else(|| context.error(line, field, format!("{name}: no kustomization.yaml in this directory")))
}

/// Adds resources; an identity may occur once.
fn add(
    context: &Context,
    line: u64,
    resources: &mut Vec<Resource>,
    more: Vec<Resource>,
) -> Result<(), Error> {
    for resource in more {
        let id = resource.id();
        if let Some(other) = resources.iter().find(|r| r.id().same(&id)) {
            let message = format!("{id} at {} is already declared at {}", resource.origin, other.origin);
            return Err(context.error(line, "resources", message));
        }
        resources.push(resource);
    }
    Ok(())
}
