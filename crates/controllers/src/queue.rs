//! What is to be looked at: each object once, however much happened to it, and never by two
//! workers at a time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::Key;

/// Delays after failures, doubling: a conflict is over when the event behind it has come in.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// A queue of keys.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// In `ready`, or to be put there when the worker on it is done.
    dirty: HashSet<Key>,
    active: HashSet<Key>,
    timers: BTreeSet<(Instant, Key)>,
    timer_of: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

impl Queue {
    /// Has a key looked at.
    pub(crate) fn add(&self, key: Key) {
        self.lock().add(key);
        self.wake.notify_one();
    }

    /// Waits for a key and hands it out. Cancel safe.
    pub(crate) async fn take(&self) -> Key {
        loop {
            let next_timer = {
                let mut state = self.lock();
                state.fire(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.active.insert(key.clone());
                    state.cancel_timer(&key);
                    return key;
                }
                state.timers.first().map(|(at, _)| *at)
            };
            match next_timer {
                None => self.wake.notified().await,
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Takes a key back that was looked at; `again` is when time alone makes it worth another look.
    pub(crate) fn succeeded(&self, key: &Key, again: Option<Duration>) {
        let mut state = self.lock();
        state.failures.remove(key);
        state.release(key, again);
        drop(state);
        self.wake.notify_one();
    }

    /// Takes a key back that could not be dealt with, to be tried again. Returns the delay.
    pub(crate) fn failed(&self, key: &Key) -> Duration {
        let mut state = self.lock();
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(16)).min(LAST_RETRY);
        *failures += 1;
        state.release(key, Some(delay));
        drop(state);
        self.wake.notify_one();
        delay
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: Key) {
        if self.dirty.insert(key.clone()) && !self.active.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn release(&mut self, key: &Key, again: Option<Duration>) {
        self.active.remove(key);
        if self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        } else if let Some(delay) = again {
            self.cancel_timer(key);
            let at = Instant::now() + delay;
            self.timers.insert((at, key.clone()));
            self.timer_of.insert(key.clone(), at);
        }
    }

    fn fire(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            self.timer_of.remove(&key);
            self.add(key);
        }
    }

    fn cancel_timer(&mut self, key: &Key) {
        if let Some(at) = self.timer_of.remove(key) {
            self.timers.remove(&(at, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn key(name: &str) -> Key {
        Key::new("shop", name)
    }

    #[tokio::test]
    async fn a_key_is_handed_out_once_and_again_when_something_happened_meanwhile() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.take().await, key("a"));
        assert!(queue.take().now_or_never().is_none());
        queue.add(key("a"));
        assert!(queue.take().now_or_never().is_none(), "a worker is on it");
        queue.succeeded(&key("a"), Some(Duration::from_secs(60)));
        assert_eq!(queue.take().await, key("a"));
        queue.succeeded(&key("a"), None);
        assert!(queue.take().now_or_never().is_none(), "the timer went with the newer look");
    }

    #[tokio::test]
    async fn failures_wait_longer_and_longer_until_a_success() {
        let queue = Queue::default();
        let mut delays = Vec::new();
        for _ in 0..3 {
            queue.add(key("a"));
            queue.take().await;
            delays.push(queue.failed(&key("a")).as_millis());
        }
        assert_eq!(delays, [5, 10, 20]);
        let before = Instant::now();
        assert_eq!(queue.take().await, key("a"));
        assert!(before.elapsed() >= Duration::from_millis(20));
        queue.succeeded(&key("a"), None);
        queue.add(key("a"));
        queue.take().await;
        assert_eq!(queue.failed(&key("a")), FIRST_RETRY);
    }
}
