//! Revisions of a Git repository, as directories to load from.
//!
//! The `git` program is asked, not a library: it reads every repository that its user can read
//! (partial clones, alternates, worktrees, signatures of ownership), and only two plumbing commands
//! are needed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The files of one revision, in a directory that goes when this is dropped.
#[derive(Debug)]
pub struct Checkout {
    folder: tempfile::TempDir,
    /// Where the caller stands in the repository.
    prefix: PathBuf,
}

/// Two revisions of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revisions {
    /// The older, `HEAD` where none is named; of `A...B`, where both last were one.
    pub old: String,
    /// The newer, `HEAD` where none is named.
    pub new: String,
}

/// Reads `A..B` or `A...B`, and resolves both in the repository around `at`.
///
/// # Errors
/// No range, no repository, or a revision that it does not have.
pub fn revisions(at: &Path, range: &str) -> Result<Revisions, Error> {
    let failed = |message: String| Error::Git { range: range.to_owned(), message };
    let (old, new, merge_base) = match (range.split_once("..."), range.split_once("..")) {
        (Some((old, new)), _) => (old, new, true),
        (None, Some((old, new))) => (old, new, false),
        (None, None) => return Err(failed("expected BASE..HEAD, or two directories".into())),
    };
    let resolve = |name: &str| {
        let name = if name.is_empty() { "HEAD" } else { name };
        let commit = format!("{name}^{{commit}}");
        git(at, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]).map_err(|why| {
            let why = if why.is_empty() { format!("{name} is no revision of this repository") } else { why };
            failed(why)
        })
    };
    let (old, new) = (resolve(old)?, resolve(new)?);
    let old = if merge_base { git(at, &["merge-base", &old, &new]).map_err(failed)? } else { old };
    Ok(Revisions { old, new })
}

impl Checkout {
    /// Writes the files of a revision of the repository around `at` to a new directory. The
    /// repository, its index and its work tree stay as they are.
    ///
    /// # Errors
    /// What `git` says.
    pub fn of(at: &Path, revision: &str) -> Result<Self, Error> {
        let failed = |message: String| Error::Git { range: revision.to_owned(), message };
        let io = |e: std::io::Error| failed(format!("cannot write a temporary directory: {e}"));
        let folder = tempfile::tempdir().map_err(io)?;
        let prefix = git(at, &["rev-parse", "--show-prefix"]).map_err(failed)?;
        let top = git(at, &["rev-parse", "--show-toplevel"]).map_err(failed)?;
        let index = folder.path().join("index");
        let files = folder.path().join("files/");
        std::fs::create_dir(&files).map_err(io)?;
        let into = format!("--prefix={}", files.display());
        for arguments in [["read-tree", revision].as_slice(), &["checkout-index", "--all", "--quiet", &into]]
        {
            git_with(Path::new(&top), Some(&index), arguments).map_err(failed)?;
        }
        Ok(Self { folder, prefix: prefix.into() })
    }

    /// Where the files of a path are, which is meant from where the caller stands.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.path().join("files").join(&self.prefix).join(path)
    }

    /// A message with the paths as people know them.
    pub fn plain(&self, message: &str, revision: &str) -> String {
        let files = self.folder.path().join("files/");
        message.replace(&*files.to_string_lossy(), &format!("{revision}:"))
    }
}

fn git(at: &Path, arguments: &[&str]) -> Result<String, String> {
    git_with(at, None, arguments)
}

fn git_with(at: &Path, index: Option<&Path>, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(at).args(arguments);
    // Set by hooks and by `git` itself, they would mean another repository or its index.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    if let Some(index) = index {
        command.env("GIT_INDEX_FILE", AsRef::<OsStr>::as_ref(index));
    }
    let output =
        command.output().map_err(|e| format!("cannot run git: {e}; install it, or name directories"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("fatal: ").to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| git(folder.path(), arguments).unwrap();
        run(&["init", "--quiet", "--initial-branch=main"]);
        std::fs::create_dir(folder.path().join("app")).unwrap();
        for text in ["one", "two"] {
            std::fs::write(folder.path().join("app/a.yaml"), text).unwrap();
            run(&["add", "."]);
            let author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
            run(&[author.as_slice(), &["commit", "--quiet", "-m", text]].concat());
        }
        std::fs::write(folder.path().join("app/a.yaml"), "not committed").unwrap();
        folder
    }

    #[test]
    fn each_revision_has_its_own_files_and_the_work_tree_stays() {
        let folder = repository();
        // From a subdirectory, as people do.
        let at = folder.path().join("app");
        let both = revisions(&at, "HEAD~1..").unwrap();
        let read = |revision: &str| {
            let checkout = Checkout::of(&at, revision).unwrap();
            std::fs::read_to_string(checkout.path(Path::new("a.yaml"))).unwrap()
        };
        assert_eq!((read(&both.old), read(&both.new)), ("one".into(), "two".into()));
        assert_eq!(std::fs::read_to_string(at.join("a.yaml")).unwrap(), "not committed");
        assert_eq!(git(&at, &["status", "--porcelain"]).unwrap(), " M app/a.yaml");
        assert_eq!(revisions(&at, "main...HEAD").unwrap().old, both.new);
    }

    #[test]
    fn what_is_no_revision_or_no_repository_is_said() {
        let folder = repository();
        let error = revisions(folder.path(), "nosuch..HEAD").unwrap_err().to_string();
        assert!(error.contains("nosuch is no revision"), "{error}");
        let error = revisions(folder.path(), "--help..HEAD").unwrap_err().to_string();
        assert!(error.contains("--help is no revision"), "{error}");
        let nowhere = tempfile::tempdir().unwrap();
        let error = revisions(nowhere.path(), "a..b").unwrap_err().to_string();
        assert!(error.contains("not a git repository"), "{error}");
    }
}
