use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kilter_objects::Schedule;

/// More times than this that nobody acted on are a fault worth telling (CronJob controller).
const MANY: usize = 100;

/// What a schedule asks for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The latest time that has come, unless it is too long ago.
    pub(super) at: Option<Timestamp>,
    /// Until the next.
    pub(super) again: Option<Duration>,
    /// Whether very many were missed.
    pub(super) missed: bool,
}

/// What is due, when the last time acted on was `since`.
pub(super) fn due(schedule: &Schedule, since: Timestamp, deadline: Option<i64>, now: Timestamp) -> Due {
    /// Where the latest time is looked for, nearest first: there may be very many since the last.
    const HOURS: [i64; 4] = [1, 24, 24 * 31, 24 * 366];
    let earliest = deadline.map(|seconds| now - SignedDuration::from_secs(seconds));
    let since = earliest.map_or(since, |earliest| since.max(earliest));
    let times = |from: Timestamp| {
        std::iter::successors(schedule.next(from), |at| schedule.next(*at)).take_while(|at| *at <= now)
    };
    let starts = HOURS.map(|hours| now - SignedDuration::from_hours(hours)).into_iter();
    let at = starts.filter(|start| *start > since).chain([since]).find_map(|start| times(start).last());
    let until = |next: Timestamp| Duration::try_from(next.duration_since(now)).unwrap_or_default();
    Due { at, again: schedule.next(now).map(until), missed: times(since).nth(MANY).is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn the_latest_time_that_has_come_is_due() {
        let hourly = Schedule::parse("0 * * * *", None).expect("readable");
        let (ten, now) = (at("2026-01-01T10:00:00Z"), at("2026-01-01T12:30:00Z"));
        let half = Some(Duration::from_secs(1800));
        let noon = Some(at("2026-01-01T12:00:00Z"));
        assert_eq!(due(&hourly, ten, None, now), Due { at: noon, again: half, missed: false });
        assert_eq!(due(&hourly, at("2026-01-01T12:00:00Z"), None, now).at, None);
        assert_eq!(due(&hourly, ten, Some(60), now).at, None, "too late for that one");
        let old = due(&hourly, at("2025-12-01T00:00:00Z"), None, now);
        assert_eq!((old.at, old.missed), (noon, true));
        assert!(!due(&hourly, at("2025-12-01T00:00:00Z"), Some(7200), now).missed);
    }
}
