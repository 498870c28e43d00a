use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Failures;
use crate::annotations::{BITS, DURATION, SHARE, bits, duration, read, share};

/// How a pod's stand-ins behave: `kilter.dev/fail`, `kilter.dev/delay`, `kilter.dev/error-rate`
/// and `kilter.dev/bandwidth`. All but the bandwidth spare the question who a stand-in is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Behaviour {
    /// What always fails.
    pub failures: Failures,
    /// How long every answer takes.
    pub delay: Duration,
    /// The share of requests that fail.
    pub error_rate: f64,
    /// Bits a second that the pod's stand-ins send, all together; as many as they can without.
    pub bandwidth: Option<u64>,
}

impl Behaviour {
    /// Reads the annotations; also returns what in them is wrong, which then counts as absent.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let (failures, unknown) = Failures::from_annotations(annotations);
        if !unknown.is_empty() {
            let known = "liveness, readiness, startup, http, grpc, tcp, udp, all";
            let unknown = unknown.join(", ");
            wrong.push(format!("annotation kilter.dev/fail: {unknown} means nothing; what does: {known}"));
        }
        let delay = read(annotations, "kilter.dev/delay", duration, DURATION);
        let error_rate = read(annotations, "kilter.dev/error-rate", share, SHARE);
        let bandwidth = read(annotations, "kilter.dev/bandwidth", bits, BITS);
        let behaviour = Self {
            failures,
            delay: or_tell(delay, &mut wrong).unwrap_or_default(),
            error_rate: or_tell(error_rate, &mut wrong).unwrap_or_default(),
            bandwidth: or_tell(bandwidth, &mut wrong),
        };
        (behaviour, wrong)
    }
}

fn or_tell<T>(read: Result<Option<T>, String>, wrong: &mut Vec<String>) -> Option<T> {
    read.unwrap_or_else(|why| {
        wrong.push(why);
        None
    })
}

/// Picks which requests fail: evenly spread, so that a rate is met exactly and not by chance.
#[derive(Debug, Default)]
pub struct Errors(AtomicU64);

impl Errors {
    /// Whether the next request is one that fails.
    pub fn next(&self, rate: f64) -> bool {
        let asked = self.0.fetch_add(1, Ordering::Relaxed);
        let failed = |asked: u64| (asked as f64 * rate).floor();
        failed(asked + 1) > failed(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read_and_wrong_ones_are_told_and_left_out() {
        let annotations = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| (format!("kilter.dev/{key}"), (*value).to_owned())).collect()
        };
        let given = annotations(&[("delay", "20ms"), ("error-rate", "25%"), ("bandwidth", "8M"), ("fail", "udp")]);
        let (found, wrong) = Behaviour::from_annotations(&given);
        let failures = Failures { udp: true, ..Failures::default() };
        let expected =
            Behaviour { failures, delay: Duration::from_millis(20), error_rate: 0.25, bandwidth: Some(8_000_000) };
        assert_eq!((found, wrong), (expected, vec![]));
        let (found, wrong) = Behaviour::from_annotations(&annotations(&[("delay", "slow"), ("error-rate", "2")]));
        assert_eq!(found, Behaviour::default());
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn errors_meet_their_rate_exactly() {
        for (rate, expected) in [(0.0, 0), (0.1, 10), (0.25, 25), (1.0, 100)] {
            let errors = Errors::default();
            assert_eq!((0..100).filter(|_| errors.next(rate)).count(), expected, "{rate}");
        }
    }
}
