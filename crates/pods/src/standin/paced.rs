use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Behaviour;

/// Pieces are as long as this takes to send, so that all connections of a pod get their share.
const PIECE: Duration = Duration::from_millis(20);

/// When the pod's stand-ins may send again.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Arc<Mutex<Option<Instant>>>);

impl Pace {
    /// Reserves the time that so many bits take; returns when it begins.
    fn reserve(&self, bits: u64, rate: u64, now: Instant) -> Instant {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = free.map_or(now, |free| free.max(now));
        *free = Some(begins + Duration::from_secs_f64(bits as f64 / rate as f64));
        begins
    }
}

/// A stream that sends no faster than its pod may.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    behaviour: watch::Receiver<Behaviour>,
    /// Until when to wait before sending so many bytes.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Pace, behaviour: watch::Receiver<Behaviour>) -> Self {
        Self { stream, pace, behaviour, waiting: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting.is_none() {
            let rate = self.behaviour.borrow().bandwidth;
            let Some(rate) = rate else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
            let piece = (rate as f64 * PIECE.as_secs_f64() / 8.0).max(1.0) as usize;
            let length = buf.len().min(piece);
            let begins = self.pace.reserve(length as u64 * 8, rate, Instant::now());
            self.waiting = Some((Box::pin(sleep_until(begins)), length));
        }
        let Some((wait, length)) = &mut self.waiting else { return Poll::Pending };
        ready!(wait.as_mut().poll(cx));
        // A caller may come back with less.
        let length = (*length).min(buf.len());
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..length]));
        self.waiting = None;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_reserved_one_after_the_other_and_an_idle_pod_saves_none() {
        let pace = Pace::default();
        let now = Instant::now();
        let millis = |at: Instant| (at - now).as_millis();
        assert_eq!(millis(pace.reserve(500, 1000, now)), 0);
        assert_eq!(millis(pace.reserve(500, 1000, now)), 500);
        let later = now + Duration::from_secs(60);
        assert_eq!(millis(pace.reserve(500, 1000, later)), 60_000);
        assert_eq!(millis(pace.reserve(500, 1000, later)), 60_500);
    }
}
