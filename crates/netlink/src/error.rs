use std::io;
use std::sync::Arc;

/// What was tried, on what, in which namespace; the source says why the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object} in network namespace {namespace}")]
pub struct Error {
    operation: &'static str,
    object: String,
    namespace: Arc<str>,
    source: io::Error,
}

impl Error {
    pub(crate) fn new(
        operation: &'static str,
        object: impl Into<String>,
        namespace: impl Into<Arc<str>>,
        source: io::Error,
    ) -> Self {
        Self { operation, object: object.into(), namespace: namespace.into(), source }
    }

    /// The kernel's errno, where the kernel refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether what was to be made is there already.
    pub fn is_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether what was asked for does not exist: ENOENT, ESRCH (routes), ENODEV, ENXIO, EADDRNOTAVAIL.
    pub fn is_missing(&self) -> bool {
        matches!(self.raw_os_error(), Some(2 | 3 | 6 | 19 | 99))
    }
}

/// The errno within a netlink error, where there is one.
pub(crate) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
