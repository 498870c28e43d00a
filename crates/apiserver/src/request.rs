//! What a request is about: its path, its verb and its options.

mod options;
mod path;
mod query;

pub(crate) use options::revision;
pub use options::{DeleteOptions, FieldValidation, ListOptions, Propagation, RevisionMatch, WriteOptions};
pub use path::{Route, Target};
pub use query::Query;
