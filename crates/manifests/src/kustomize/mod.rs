//! Kustomizations, as `kubectl kustomize` builds them.
//!
//! What is not supported is an error that names file and field; nothing is silently ignored.

mod build;
mod context;
mod fields;
mod file;
mod generators;
mod hash;
mod images;
mod metadata;
mod names;
mod patches;
mod paths;
mod references;
mod resource;
mod selector;
mod transformers;

use std::path::{Path, PathBuf};

use crate::{Error, Object};

/// The names under which a directory may have its kustomization.
const FILES: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// The kustomization that a path names: of a directory, or the file itself.
pub(crate) fn find(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return FILES.iter().map(|name| path.join(name)).find(|file| file.is_file());
    }
    let name = path.file_name()?.to_str()?;
    (FILES.contains(&name) && path.is_file()).then(|| path.to_owned())
}

/// What a kustomization yields.
pub(crate) enum Built {
    /// A Kustomization: these objects.
    Objects(Vec<Object>),
    /// A Component: the objects before it as it leaves them.
    Changed(Vec<Object>),
}

/// Builds the kustomization in `file`. A Component is applied to `before`, what the sources before
/// it declare.
pub(crate) fn build(file: &Path, before: &[Object]) -> Result<Built, Error> {
    build::build(file, before)
}
