/// Why something asked of the Kubernetes API did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be read or is incomplete.
    #[error("kubeconfig {path} cannot be used")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// The API answered with a failure.
    #[error("{what}: the API refused: {message} ({reason}, HTTP {code})")]
    Refused {
        /// What was asked, `create Pod shop/front`.
        what: String,
        /// The API's own words.
        message: String,
        /// `metav1.Status.reason`: `AlreadyExists`, `Invalid`...
        reason: String,
        /// The HTTP status.
        code: u16,
    },
    /// There was no answer, or none that could be understood.
    #[error("{what}: no usable answer from the API")]
    Transport {
        /// What was asked.
        what: String,
        /// What went wrong underneath.
        source: Box<kube::Error>,
    },
    /// The object has no `apiVersion`, `kind` or `metadata.name`.
    #[error("{what}: {field} is missing")]
    Incomplete {
        /// The object, as far as it says what it is.
        what: String,
        /// The path of the missing field.
        field: &'static str,
    },
    /// The API does not serve this kind.
    #[error("{what}: the API serves no kind {kind} in {api_version}; leave it out or install its definition")]
    UnknownKind {
        /// The object.
        what: String,
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// The API sent an object that is not what its kind promises.
    #[error("{what} cannot be understood")]
    Object {
        /// The object.
        what: String,
        /// What is wrong with it.
        source: kilter_objects::Error,
    },
}

impl Error {
    /// Sorts a client error into an answer of the API and the lack of one.
    pub fn from_kube(what: impl Into<String>, error: kube::Error) -> Self {
        let what = what.into();
        match error {
            kube::Error::Api(status) => Error::Refused {
                what,
                message: status.message.clone(),
                reason: status.reason.clone(),
                code: status.code,
            },
            other => Error::Transport { what, source: Box::new(other) },
        }
    }

    /// Whether the API said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused { code: 404, .. })
    }

    /// Whether the API said that the object exists already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Error::Refused { reason, .. } if reason == "AlreadyExists")
    }

    /// Whether somebody else changed the object first.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Refused { reason, .. } if reason == "Conflict")
    }
}
