//! Watches: a cursor into the store's ring, read when the client has taken what it was sent. A slow
//! client holds no memory; one that falls behind the ring is told to list again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, interval_at};
use tokio_util::sync::CancellationToken;

use crate::render::Renderer;
use crate::selector::Selection;
use crate::status::Status;
use crate::store::{Change, Object, Store};

/// How many changes are read from the ring at once.
const BATCH: usize = 256;
/// How often a watcher that wants bookmarks learns how far it has come.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// What a watcher asked for.
#[derive(Debug)]
pub struct Request {
    /// How to show objects.
    pub renderer: Renderer,
    /// Which objects.
    pub selection: Selection,
    /// The revision after which to begin; `None` begins with the present state.
    pub since: Option<u64>,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// Whether the end of the present state is to be marked.
    pub mark_initial: bool,
    /// When to end.
    pub deadline: Instant,
}

struct Watcher {
    store: Arc<Store>,
    request: Request,
    stop: CancellationToken,
    news: watch::Receiver<u64>,
    ticks: Interval,
    /// Everything up to here has been sent or did not concern the client.
    cursor: u64,
    /// The present state, still to be sent.
    initial: VecDeque<Arc<Object>>,
    mark_pending: bool,
    columns_sent: bool,
    ended: bool,
}

/// The events of a watch, as lines of JSON, several to a piece. Where the history does not reach back
/// to the revision asked for, or this server has never had it, the first event is an ERROR with code
/// 410, as in Kubernetes: clients (kube-rs) take a refusal of the request itself for a passing fault
/// and ask for the same revision for ever.
pub fn events(store: Arc<Store>, request: Request, stop: CancellationToken) -> impl Stream<Item = Bytes> {
    let resource = request.renderer.resource;
    let news = store.news_of(resource);
    let (cursor, initial) = match request.since {
        None => {
            let (revision, objects) = store.list(resource, request.selection.namespace.as_deref());
            (revision, objects.into_iter().filter(|o| request.selection.matches(o)).collect())
        }
        Some(since) => (since, VecDeque::new()),
    };
    let ticks = interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
    let mark_pending = request.mark_initial;
    let watcher = Watcher {
        store,
        request,
        stop,
        news,
        ticks,
        cursor,
        initial,
        mark_pending,
        columns_sent: false,
        ended: false,
    };
    futures::stream::unfold(watcher, |mut watcher| async move {
        watcher.next().await.map(|piece| (piece, watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            let piece = self.ready();
            if !piece.is_empty() {
                return Some(piece.freeze());
            }
            self.news.borrow_and_update();
            // Between the reading above and the line before, news may have come.
            if self.behind() {
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => self.ended |= changed.is_err(),
                _ = self.ticks.tick(), if self.request.bookmarks => return Some(self.bookmark(false)),
                () = tokio::time::sleep_until(self.request.deadline) => {
                    self.ended = true;
                    if self.request.bookmarks {
                        return Some(self.bookmark(false));
                    }
                }
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn behind(&self) -> bool {
        self.store.after(self.request.renderer.resource, self.cursor, 1).map_or(true, |c| !c.is_empty())
    }

    /// What can be sent now.
    fn ready(&mut self) -> BytesMut {
        let mut piece = BytesMut::new();
        let initial: Vec<_> = self.initial.drain(..self.initial.len().min(BATCH)).collect();
        for object in initial {
            self.write(&mut piece, "ADDED", &object);
        }
        if !self.initial.is_empty() {
            return piece;
        }
        if std::mem::take(&mut self.mark_pending) {
            piece.put(self.bookmark(true));
        }
        if !piece.is_empty() {
            return piece;
        }
        if self.cursor > self.store.revision() {
            let never = format!("resourceVersion {} is not one of this server's; list again", self.cursor);
            self.refuse(&mut piece, never);
            return piece;
        }
        match self.store.after(self.request.renderer.resource, self.cursor, BATCH) {
            Ok(changes) => {
                for change in changes {
                    self.cursor = change.revision;
                    self.write_change(&mut piece, &change);
                }
            }
            Err(too_old) => self.refuse(&mut piece, too_old.to_string()),
        }
        piece
    }

    /// The last event: list again.
    fn refuse(&mut self, piece: &mut BytesMut, why: String) {
        self.ended = true;
        piece.put(line("ERROR", &Status::expired(why).to_value()));
    }

    /// A change as seen through the selection: what enters it is added, what leaves it is deleted.
    fn write_change(&mut self, piece: &mut BytesMut, change: &Change) {
        let selection = &self.request.selection;
        let before = change.before.as_ref().filter(|o| selection.matches(o));
        let after = Some(&change.object).filter(|o| !change.deleted && selection.matches(o));
        match (before, after) {
            (None, Some(object)) => self.write(piece, "ADDED", object),
            (Some(_), Some(object)) => self.write(piece, "MODIFIED", object),
            (Some(_), None) if change.deleted => self.write(piece, "DELETED", &change.object),
            (Some(before), None) => {
                let last = Object::new(self.request.renderer.resource, before.value(), change.revision);
                self.write(piece, "DELETED", &last);
            }
            (None, None) => {}
        }
    }

    fn write(&mut self, piece: &mut BytesMut, kind: &str, object: &Object) {
        let shown = self.request.renderer.event_object(object, !self.columns_sent);
        self.columns_sent = true;
        piece.reserve(shown.len() + 40);
        piece.put_slice(b"{\"type\":\"");
        piece.put_slice(kind.as_bytes());
        piece.put_slice(b"\",\"object\":");
        piece.put_slice(&shown);
        piece.put_slice(b"}\n");
    }

    fn bookmark(&self, initial_events_end: bool) -> Bytes {
        line("BOOKMARK", &self.request.renderer.bookmark(self.cursor, initial_events_end))
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}
