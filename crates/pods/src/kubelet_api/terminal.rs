use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::program::{self, Size};

/// The near end of a terminal, read and written at the same time.
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    file: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    pub(super) fn new(near: OwnedFd) -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&near, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: an `OwnedFd` keeps one descriptor open until it is dropped, which happens with
        // the `AsyncFd` that owns it.
        let file = unsafe { AsyncFd::register_with_interest(near, interest) }.map_err(io::Error::from)?;
        Ok(Self { file: Arc::new(file) })
    }

    /// What the programs print; zero bytes once the last of them has closed the terminal.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.async_io(Interest::READABLE, |file| Ok(nix::unistd::read(file, buffer)?)).await;
        match read {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            other => other,
        }
    }

    /// What a person types.
    pub(super) async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written =
                self.file.async_io(Interest::WRITABLE, |file| Ok(nix::unistd::write(file, data)?)).await?;
            data = &data[written..];
        }
        Ok(())
    }

    /// Says that nothing more will be typed: as if Ctrl-D were.
    pub(super) async fn end_of_input(&self) {
        // Whoever reads may be gone already.
        let _ = self.write_all(&[4]).await;
    }

    pub(super) fn resize(&self, size: Size) {
        if let Err(error) = program::resize(self.file.get_ref(), size) {
            tracing::debug!(%error, "resize a terminal");
        }
    }
}
