use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where a thing was declared, so that an answer can point at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// A file and the 1-based line on which the document starts.
    File {
        /// The path as the caller gave it.
        path: Arc<str>,
        /// 1-based line of the document's first key.
        line: u32,
    },
    /// The Kubernetes API, at this resourceVersion.
    Api {
        /// `metadata.resourceVersion` of the object read.
        resource_version: Arc<str>,
    },
    /// Kilter itself (defaults of a twin).
    Builtin,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Api { resource_version } => write!(f, "API (resourceVersion {resource_version})"),
            Origin::Builtin => f.write_str("built in"),
        }
    }
}
