use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use kilter_model::NamespacedName;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::Api;
use crate::negotiate;
use crate::render::Renderer;
use crate::request::{ListOptions, Query, RevisionMatch, Target};
use crate::respond::{self, Answer};
use crate::selector::Selection;
use crate::status::Status;
use crate::store::{Object, Store, TooOld};
use crate::watch;

/// GET of a collection.
pub fn list(api: &Api, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Answer, Status> {
    let renderer = Renderer::new(target.resource, negotiate::form(headers)?, query)?;
    let options = ListOptions::parse(target.resource, target.namespace.as_deref(), query)?;
    let page = page(&api.registry.store, target, &options)?;
    let pieces = renderer.list(&page.objects, page.metadata());
    Ok(respond::json_body(StatusCode::OK, respond::stream(futures::stream::iter(pieces))))
}

struct Page {
    revision: u64,
    objects: Vec<Arc<Object>>,
    /// Where the next page starts.
    next: Option<NamespacedName>,
    /// How many objects it would have, where that is known.
    remaining: Option<usize>,
}

impl Page {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(next) = &self.next {
            metadata["continue"] = Token { revision: self.revision, start: next.clone() }.write().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

fn page(store: &Store, target: &Target, options: &ListOptions) -> Result<Page, Status> {
    let token = options.token.as_deref().map(Token::read).transpose()?;
    let (revision, all) = match (&token, options.revision, options.revision_match) {
        (Some(_), Some(asked), _) if asked > 0 => {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        (Some(token), ..) => (token.revision, at(store, target, Some(&token.start), token.revision, true)?),
        (None, Some(asked), Some(RevisionMatch::Exact)) => (asked, at(store, target, None, asked, false)?),
        // Without a match, a limited list of a revision means exactly that one (KEP-365).
        (None, Some(asked), None) if asked > 0 && options.limit.is_some() => {
            (asked, at(store, target, None, asked, false)?)
        }
        (None, asked, _) => {
            let (revision, all) = now(store, target, &options.selection);
            if let Some(asked) = asked.filter(|a| *a > revision) {
                return Err(Status::too_large_revision(asked, revision));
            }
            (revision, all)
        }
    };
    let mut objects: Vec<_> = all.into_iter().filter(|o| options.selection.matches(o)).collect();
    let limit = options.limit.unwrap_or(usize::MAX);
    let left = objects.len().saturating_sub(limit);
    objects.truncate(limit);
    let next = objects.last().filter(|_| left > 0).map(|o| o.key.clone());
    // With a selector Kubernetes does not count.
    let counted = left > 0 && options.selection.is_plain();
    Ok(Page { revision, objects, next, remaining: counted.then_some(left) })
}

fn now(store: &Store, target: &Target, selection: &Selection) -> (u64, Vec<Arc<Object>>) {
    match selection.single().filter(|k| target.resource.kind.namespaced != k.namespace.is_empty()) {
        Some(key) => {
            let revision = store.revision();
            (revision, store.get(target.resource, &key).into_iter().collect())
        }
        None => store.list(target.resource, target.namespace.as_deref()),
    }
}

fn at(
    store: &Store,
    target: &Target,
    start: Option<&NamespacedName>,
    revision: u64,
    continued: bool,
) -> Result<Vec<Arc<Object>>, Status> {
    let current = store.revision();
    if revision > current {
        return Err(Status::too_large_revision(revision, current));
    }
    store.list_at(target.resource, target.namespace.as_deref(), start, revision).map_err(|e: TooOld| match continued {
        true => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new \
             list without the continue parameter.",
        ),
        false => Status::expired(e.to_string()),
    })
}

/// `continue`: the revision that the first page showed, and the last key shown.
struct Token {
    revision: u64,
    start: NamespacedName,
}

impl Token {
    fn write(&self) -> String {
        let text = format!("{}\0{}\0{}", self.revision, self.start.namespace, self.start.name);
        text.bytes().map(|b| format!("{b:02x}")).collect()
    }

    fn read(text: &str) -> Result<Self, Status> {
        let read = || {
            let pairs =
                text.as_bytes().chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok());
            let bytes = pairs.collect::<Option<Vec<u8>>>()?;
            let text = String::from_utf8(bytes).ok()?;
            let mut parts = text.split('\0');
            let revision = parts.next()?.parse().ok()?;
            Some(Self { revision, start: NamespacedName::new(parts.next()?, parts.next()?) })
        };
        read().ok_or_else(|| Status::bad_request("continue key is not valid"))
    }
}

/// GET of a collection with `watch`.
pub fn watch(api: &Api, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Answer, Status> {
    let renderer = Renderer::new(target.resource, negotiate::form(headers)?, query)?;
    let options = ListOptions::parse(target.resource, target.namespace.as_deref(), query)?;
    let initial = match options.initial_events {
        Some(wanted) => wanted,
        None => matches!(options.revision, None | Some(0)),
    };
    let since = match (initial, options.revision) {
        (true, _) => None,
        (false, None | Some(0)) => Some(api.registry.store.revision()),
        (false, asked) => asked,
    };
    if initial && let Some(asked) = options.revision {
        let current = api.registry.store.revision();
        if asked > current {
            return Err(Status::too_large_revision(asked, current));
        }
    }
    let request = watch::Request {
        renderer,
        selection: options.selection,
        since,
        bookmarks: options.bookmarks,
        mark_initial: options.initial_events == Some(true) && options.bookmarks,
        deadline: Instant::now() + options.timeout.map_or_else(default_timeout, Duration::from_secs),
    };
    let events = watch::events(api.registry.store.clone(), request, api.stop.clone());
    // The headers go out before the first event: an empty piece flushes them.
    let events = futures::StreamExt::chain(futures::stream::iter([Bytes::new()]), events);
    Ok(respond::json_body(StatusCode::OK, respond::stream(events)))
}

/// Thirty to sixty minutes, so that watchers do not all come back at once (`--min-request-timeout`).
fn default_timeout() -> Duration {
    let random = u64::from(Uuid::new_v4().as_bytes()[0]);
    Duration::from_secs(1800 + random * 1800 / 255)
}
