use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Place};

/// One kustomization file, for errors and for what lies beside it.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The file as it was reached from what the caller named.
    pub file: PathBuf,
    /// Its directory.
    pub folder: PathBuf,
}

impl Context {
    pub fn new(file: &Path) -> Self {
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { file: file.to_owned(), folder: folder.to_owned() }
    }

    /// An error in a field of this file; line 0 where none is known.
    pub fn error(&self, line: u64, field: &str, message: impl Into<String>) -> Error {
        let place = Place { path: self.file.display().to_string(), line, column: 1 };
        Error::Kustomization { place, field: field.to_owned(), message: message.into() }
    }

    /// The bytes of a file that this kustomization names. As kustomize has it, files must lie in or
    /// below its directory, so that a kustomization cannot publish what is elsewhere.
    pub fn read(&self, line: u64, field: &str, name: &str) -> Result<(PathBuf, Vec<u8>), Error> {
        let path = self.inside(line, field, name)?;
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        Ok((path, bytes))
    }

    /// A path relative to this file's directory, without detours (`a/../b`), as kustomize has it.
    pub fn beside(&self, name: &str) -> PathBuf {
        let mut clean = PathBuf::new();
        for part in self.folder.join(name).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir
                    if matches!(clean.components().next_back(), Some(Component::Normal(_))) =>
                {
                    clean.pop();
                }
                part => clean.push(part),
            }
        }
        if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
    }

    fn inside(&self, line: u64, field: &str, name: &str) -> Result<PathBuf, Error> {
        if crate::source::is_remote(name) {
            return Err(self.error(line, field, format!("{name}: remote files are not supported yet")));
        }
        let path = self.beside(name);
        let real =
            |path: &Path| path.canonicalize().map_err(|source| Error::Read { path: path.to_owned(), source });
        if real(&path)?.starts_with(real(&self.folder)?) {
            return Ok(path);
        }
        Err(self.error(line, field, format!("{name} is not in or below {}", self.folder.display())))
    }
}
