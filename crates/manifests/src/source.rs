use std::fmt;
use std::path::PathBuf;

use crate::Error;

/// Where objects come from: one `-f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, a directory (not searched recursively) or a directory with a kustomization.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Text that the caller has, under the name that messages give it.
    Text {
        /// What stands for the path in messages.
        name: String,
        /// YAML or JSON.
        text: String,
    },
}

impl Source {
    /// Reads the argument of a `-f`.
    ///
    /// # Errors
    /// `URL//PATH?ref=REV` and other remote sources, which this version does not fetch.
    pub fn parse(argument: &str) -> Result<Self, Error> {
        if argument == "-" {
            return Ok(Source::Stdin);
        }
        if is_remote(argument) {
            return Err(Error::Unsupported {
                source_text: argument.to_owned(),
                message: "remote sources are not supported yet; clone the repository and name the local path"
                    .into(),
            });
        }
        Ok(Source::Path(argument.into()))
    }
}

/// Whether a source, or an entry of a kustomization, lies on another machine.
pub(crate) fn is_remote(text: &str) -> bool {
    const HOSTS: &[&str] = &["git@", "github.com/", "gitlab.com/", "bitbucket.org/", "git::"];
    text.contains("://") || text.contains("?ref=") || HOSTS.iter().any(|h| text.starts_with(h))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => write!(f, "{}", path.display()),
            Source::Stdin => f.write_str("-"),
            Source::Text { name, .. } => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_sources_are_refused_with_advice() {
        for remote in ["https://example.org/a//deploy?ref=v1", "git@example.org:a/b", "github.com/a/b//c"] {
            let error = Source::parse(remote).unwrap_err().to_string();
            assert!(error.contains("not supported yet") && error.starts_with(remote), "{error}");
        }
        assert_eq!(Source::parse("-").unwrap(), Source::Stdin);
        assert_eq!(Source::parse("a//b").unwrap(), Source::Path("a//b".into()));
    }
}
