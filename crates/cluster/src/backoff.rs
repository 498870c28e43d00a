use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;

/// Delays between attempts: doubling, without jitter, since few clients share an API here and a
/// test should not depend on chance.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first`, doubling up to `limit`.
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    fn advance(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.limit);
        now
    }

    /// Starts again, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    /// For watches: an API that restarts is noticed within 50 ms, a dead one asked every 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// The next delay; never `None`.
    fn next(&mut self) -> Option<Duration> {
        Some(self.advance())
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        Self::reset(self);
    }
}

/// Watches one kind for ever: list, then watch, reconnecting. Errors are logged and retried, so
/// what comes out is only what happened (see `watcher::Event` for the meaning of a re-list). Objects come
/// without `metadata.managedFields`, which are the larger part of many and which nobody here asks for.
pub fn watch_kind<K>(api: Api<K>) -> impl Stream<Item = watcher::Event<K>> + Send
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch_some(api, watcher::Config::default())
}

/// Like [`watch_kind`], of those objects that `config` selects.
pub fn watch_some<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Event<K>> + Send
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let url = api.resource_url().to_string();
    let start = move || watcher(api.clone(), config.clone()).boxed();
    let events = start();
    futures::stream::unfold((events, Backoff::default()), move |(mut events, mut backoff)| {
        let (start, url) = (start.clone(), url.clone());
        async move {
            loop {
                match events.next().await? {
                    Ok(mut event) => {
                        backoff.reset();
                        forget_managers(&mut event);
                        return Some((event, (events, backoff)));
                    }
                    Err(error) => {
                        tracing::warn!(%url, %error, "watch failed; trying again");
                        tokio::time::sleep(backoff.advance()).await;
                        // `watcher` would go on asking for changes since a version that the API
                        // says it no longer has: only a new list helps.
                        if is_expired(&error) {
                            events = start();
                        }
                    }
                }
            }
        }
    })
}

fn forget_managers<K: kube::Resource>(event: &mut watcher::Event<K>) {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    match event {
        Apply(object) | Delete(object) | InitApply(object) => object.meta_mut().managed_fields = None,
        Init | InitDone => {}
    }
}

/// Whether the API refused to watch from a version that it has forgotten, or never had.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_limit_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(150));
        let millis: Vec<_> = (0..4).map(|_| backoff.advance().as_millis()).collect();
        assert_eq!(millis, [50, 100, 150, 150]);
        backoff.reset();
        assert_eq!(backoff.advance(), Duration::from_millis(50));
    }
}
