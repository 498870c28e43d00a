use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(300);
/// Twice the limit without a failure, and it is forgotten (client-go `flowcontrol.Backoff`).
const FORGOTTEN: Duration = Duration::from_secs(600);

/// How long a container that failed waits: not at all the first time, then 10 s doubling to
/// 300 s, until it has been well for ten minutes.
#[derive(Debug, Default)]
pub struct Backoff {
    next: Option<(Duration, Instant)>,
}

impl Backoff {
    /// The delay before the restart after a failure that happened now.
    pub fn after_failure(&mut self, now: Instant) -> Duration {
        let delay = match self.next {
            Some((delay, at)) if now.saturating_duration_since(at) <= FORGOTTEN => delay,
            _ => Duration::ZERO,
        };
        let following = if delay.is_zero() { FIRST } else { (delay * 2).min(LIMIT) };
        // The clock for forgetting runs from the restart, not from the failure.
        self.next = Some((following, now + delay));
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_limit_and_are_forgotten_after_ten_good_minutes() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..8 {
            let delay = backoff.after_failure(now);
            delays.push(delay.as_secs());
            now += delay + Duration::from_secs(30);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        now += Duration::from_secs(600);
        assert_eq!(backoff.after_failure(now), Duration::ZERO);
    }
}
