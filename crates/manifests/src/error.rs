use std::fmt;
use std::path::PathBuf;

use kilter_model::Origin;
use kilter_objects::FieldError;

/// A position in a file; line and column are 1-based and 0 where unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the caller named it.
    pub path: String,
    /// 1-based line.
    pub line: u64,
    /// 1-based column, in characters.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.path),
            line => write!(f, "{}:{line}:{}", self.path, self.column),
        }
    }
}

/// An object that the API server would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// `Kind namespace/name`.
    pub object: String,
    /// What is wrong with it, and where that stands; never empty.
    pub faults: Vec<(Origin, FieldError)>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (origin, fault)) in self.faults.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{origin}: {}: {fault}", self.object)?;
        }
        Ok(())
    }
}

/// Why sources cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML or JSON.
    #[error("{place}: {message}")]
    Syntax {
        /// Where reading stopped.
        place: Place,
        /// What is wrong there.
        message: String,
    },
    /// A document that is no Kubernetes object.
    #[error("{origin}: not a Kubernetes object: {message}")]
    NotAnObject {
        /// Where the document starts.
        origin: Origin,
        /// What it lacks.
        message: String,
    },
    /// A directory without manifests.
    #[error("{}: no .yaml, .yml or .json file in this directory (subdirectories are not searched)", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A source that this version cannot read.
    #[error("{source_text}: {message}")]
    Unsupported {
        /// The source as given.
        source_text: String,
        /// What to do instead.
        message: String,
    },
    /// The same object twice in one file.
    #[error("{second}: {object} is already declared at {first}; one file may declare an object once")]
    Duplicate {
        /// `Kind namespace/name`.
        object: String,
        /// Where it was declared first.
        first: Origin,
        /// Where it is declared again.
        second: Origin,
    },
    /// A kustomization that cannot be built, or has what is not supported.
    #[error("{place}: {field}: {message}")]
    Kustomization {
        /// The kustomization file, and the line of the field.
        place: Place,
        /// The field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// A Git revision cannot be had.
    #[error("{range}: {message}")]
    Git {
        /// The revision or the range, as given.
        range: String,
        /// What is wrong with it.
        message: String,
    },
    /// Objects that the API server would refuse.
    #[error("{}", invalid_text(.0))]
    Invalid(Vec<Invalid>),
    /// An object that says nothing that has a meaning.
    #[error("{origin}: {source}")]
    Meaningless {
        /// Where the field stands.
        origin: Origin,
        /// What is wrong with it.
        source: kilter_objects::Error,
    },
    /// Kinds that Kilter does not support, where the caller asked for strictness.
    #[error("{0}")]
    UnsupportedKinds(String),
}

fn invalid_text(all: &[Invalid]) -> String {
    all.iter().map(Invalid::to_string).collect::<Vec<_>>().join("\n")
}
