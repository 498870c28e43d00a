use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kilter_wire::control::{IS, WHO};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::paced::Paced;
use super::server::Serving;
use super::sniff::{Speech, speech};
use super::{Identity, http};

/// A client whose first bytes could be the beginning of HTTP but that sends no more is echoed.
const UNDECIDED: Duration = Duration::from_millis(50);

/// Accepts until cancelled; connections are cut off then.
pub(super) async fn serve(listener: TcpListener, serving: Arc<Serving>, cancel: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                let (serving, cancel) = (serving.clone(), cancel.clone());
                connections.spawn(async move {
                    // A client that goes away in the middle is no event.
                    let _ = cancel.run_until_cancelled(connection(stream, client, &serving)).await;
                });
            }
            Err(error) => {
                // Out of descriptors: accepting again at once would spin.
                tracing::warn!(%error, port = serving.port, "accept a connection of a stand-in");
                let _ = tokio::time::timeout(UNDECIDED, cancel.cancelled()).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, client: SocketAddr, serving: &Arc<Serving>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let ends = Ends { client, local: stream.local_addr()? };
    let mut stream = Paced::new(stream, serving.pace.clone(), serving.behaviour.clone());
    let (start, said) = first_bytes(&mut stream).await?;
    if said != Speech::Tls {
        return converse(stream, start, said, ends, serving).await;
    }
    let acceptor = tokio_rustls::TlsAcceptor::from(serving.tls.clone());
    let mut stream = acceptor.accept(Rewound { start, stream }).await?;
    let (start, said) = first_bytes(&mut stream).await?;
    converse(stream, start, said, ends, serving).await
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
}

async fn converse<S>(
    mut stream: S,
    start: Vec<u8>,
    said: Speech,
    ends: Ends,
    serving: &Arc<Serving>,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match said {
        Speech::Who => answer_who(stream, start, &serving.identity).await,
        Speech::Http => http::serve(Rewound { start, stream }, ends, serving.clone()).await,
        Speech::Tls | Speech::Other | Speech::Undecided => {
            if start.is_empty() || !serving.think().await {
                return Ok(());
            }
            serving.log.print(&format!("TCP {} from {}: echo", serving.port, ends.client));
            stream.write_all(&start).await?;
            echo(stream).await
        }
    }
}

/// Reads until the first bytes decide what the client speaks.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(Vec<u8>, Speech)> {
    let mut start = Vec::with_capacity(1024);
    if stream.read_buf(&mut start).await? == 0 {
        return Ok((start, Speech::Other));
    }
    loop {
        match speech(&start) {
            Speech::Undecided => match tokio::time::timeout(UNDECIDED, stream.read_buf(&mut start)).await {
                Ok(Ok(0)) | Err(_) => return Ok((start, Speech::Other)),
                Ok(read) => read?,
            },
            decided => return Ok((start, decided)),
        };
    }
}

/// Answers one `KILTER-WHO` line after another.
async fn answer_who<S>(mut stream: S, mut pending: Vec<u8>, identity: &Identity) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let Some(answer) = who(&line, identity) else { return Ok(()) };
            stream.write_all(&answer).await?;
        }
        if pending.len() > 1024 || stream.read_buf(&mut pending).await? == 0 {
            return Ok(());
        }
    }
}

/// The answer to `KILTER-WHO <nonce>\n`, or `None` when it is something else.
pub(super) fn who(question: &[u8], identity: &Identity) -> Option<Vec<u8>> {
    let nonce = std::str::from_utf8(question.strip_prefix(WHO.as_bytes())?).ok()?.trim();
    Some(format!("{IS} {} {nonce}\n", identity.uid).into_bytes())
}

async fn echo<S: AsyncRead + AsyncWrite>(stream: S) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// A stream whose first bytes were read already.
struct Rewound<S> {
    start: Vec<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.start.len().min(buf.remaining());
        buf.put_slice(&self.start[..length]);
        self.start.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
