/// Why an object could not be brought closer to what it should be. It is tried again, so this is
/// for logs, except where the error ends [`crate::run`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API did not do what was asked.
    #[error(transparent)]
    Api(#[from] kilter_cluster::Error),
    /// An object cannot be understood.
    #[error(transparent)]
    Object(#[from] kilter_objects::Error),
    /// A field that validation should have refused.
    #[error("{object}: {field} is missing or wrong; correct the object")]
    Field {
        /// The object.
        object: String,
        /// The field's path.
        field: &'static str,
    },
    /// A part of the controllers ended that must not.
    #[error("BUG: a controller stopped working")]
    Stopped(#[source] Option<tokio::task::JoinError>),
}

impl Error {
    /// Whether this is the normal fate of a decision made on a cache that lagged: the event that
    /// overtakes it is on its way.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Error::Api(e) if e.is_conflict() || e.is_not_found() || e.is_already_exists())
    }
}
