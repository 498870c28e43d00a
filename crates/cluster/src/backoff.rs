use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
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
}

impl Default for Backoff {
    /// For watches: an API that restarts is noticed within 50 ms, a dead one asked every 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next = (now * 2).min(self.limit);
        Some(now)
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Watches one kind for ever: list, then watch, reconnecting. Errors are logged and retried, so
/// what comes out is only what happened (see `watcher::Event` for the meaning of a re-list).
pub fn watch_kind<K>(api: Api<K>) -> impl Stream<Item = watcher::Event<K>> + Send
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let url = api.resource_url().to_string();
    watcher(api, watcher::Config::default()).backoff(Backoff::default()).filter_map(move |result| {
        let event =
            result.inspect_err(|error| tracing::warn!(%url, %error, "watch failed; trying again")).ok();
        std::future::ready(event)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::utils::Backoff as _;

    #[test]
    fn delays_double_to_the_limit_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(150));
        let millis: Vec<_> = backoff.by_ref().take(4).map(|d| d.as_millis()).collect();
        assert_eq!(millis, [50, 100, 150, 150]);
        backoff.reset();
        assert_eq!(backoff.next(), Some(Duration::from_millis(50)));
    }
}
