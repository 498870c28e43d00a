use std::io;
use std::sync::Arc;

use kilter_netns::NetNs;
use rtnetlink::Handle;
use tokio::runtime;

use crate::Error;
use crate::error::to_io;

/// A route netlink socket of one namespace. Cheap to clone; the socket closes with the last clone.
#[derive(Debug, Clone)]
pub struct Netlink {
    pub(crate) handle: Handle,
    pub(crate) namespace: Arc<str>,
}

impl Netlink {
    /// Opens a socket inside `namespace`. Must be called within a tokio runtime, which then drives it.
    ///
    /// # Errors
    /// When the namespace cannot be entered (no CAP_SYS_ADMIN) or the socket not be opened.
    pub fn new(namespace: &NetNs) -> Result<Self, Error> {
        let name: Arc<str> = namespace.path().display().to_string().into();
        let runtime = runtime_handle(&name)?;
        let handle = namespace
            .run(|| connect(&runtime))
            .map_err(io::Error::other)
            .and_then(|connected| connected)
            .map_err(|source| Error::new("open", "a netlink socket", name.clone(), source))?;
        Ok(Self { handle, namespace: name })
    }

    /// Opens a socket in the namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        let name: Arc<str> = "(this process's)".into();
        let runtime = runtime_handle(&name)?;
        let handle = connect(&runtime)
            .map_err(|source| Error::new("open", "a netlink socket", name.clone(), source))?;
        Ok(Self { handle, namespace: name })
    }

    pub(crate) fn fail(
        &self,
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(rtnetlink::Error) -> Error {
        let (object, namespace) = (object.into(), self.namespace.clone());
        move |source| Error::new(operation, object, namespace, to_io(source))
    }
}

fn runtime_handle(namespace: &Arc<str>) -> Result<runtime::Handle, Error> {
    runtime::Handle::try_current()
        .map_err(|source| Error::new("open", "a netlink socket", namespace.clone(), io::Error::other(source)))
}

/// The socket belongs to the namespace of the thread that opens it, for good.
fn connect(runtime: &runtime::Handle) -> io::Result<Handle> {
    let _inside = runtime.enter();
    let (connection, handle, _unsolicited) = rtnetlink::new_connection()?;
    runtime.spawn(connection);
    Ok(handle)
}
