//! Schedules of CronJobs: five fields, or a name for some of them, in a time zone.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

/// How far ahead a time is looked for: February 29th on a given weekday is 28 years apart.
const YEARS: i16 = 30;

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    when: When,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    /// So long after the last time (`@every`).
    Every(SignedDuration),
    /// At these minutes of these hours of these days.
    At(Fields),
}

/// The five fields, each as the set of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day must fit both its fields. Where both are restricted, either is enough.
    both_days: bool,
}

impl Schedule {
    /// Reads a schedule; without a zone it is in UTC, which is where the controllers run.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        if text.contains("TZ") {
            return Err("cannot use TZ or CRON_TZ in the schedule, use timeZone field instead".into());
        }
        let zone = match zone {
            None => TimeZone::UTC,
            // The machine's own zone is nobody's to rely on (Kubernetes refuses it too).
            Some(name) if name.is_empty() || name.eq_ignore_ascii_case("local") => {
                return Err(format!("unknown time zone {name:?}"));
            }
            Some(name) => TimeZone::get(name).map_err(|_| format!("unknown time zone {name:?}"))?,
        };
        Ok(Self { when: When::parse(text.trim())?, zone })
    }

    /// The first time after a moment; `None` where there is none (February 30th).
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Every(pause) => after.checked_add(*pause).ok(),
            When::At(fields) => fields.next(after, &self.zone),
        }
    }
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => match other.strip_prefix("@every ") {
                Some(pause) => return every(pause.trim()),
                None if other.starts_with('@') => return Err(format!("unrecognized descriptor: {other}")),
                None => other,
            },
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
        };
        const MONTHS: [&str; 12] =
            ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
        let is_open = |field: &str| field.starts_with(['*', '?']);
        Ok(Self::At(Fields {
            minutes: set(minutes, 0..=59, &[])?,
            hours: set(hours, 0..=23, &[])?,
            days: set(days, 1..=31, &[])?,
            months: set(months, 1..=12, &MONTHS)?,
            weekdays: set(weekdays, 0..=6, &WEEKDAYS)?,
            both_days: is_open(days) || is_open(weekdays),
        }))
    }
}

/// `1h30m`, as Go writes durations; whole seconds, at least one.
fn every(text: &str) -> Result<When, String> {
    let bad = || format!("failed to parse duration {text:?}");
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let factor = match &after[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(bad()),
        };
        seconds += number.parse::<f64>().map_err(|_| bad())? * factor;
        rest = &after[unit..];
    }
    if text.is_empty() || seconds > 1e9 {
        return Err(bad());
    }
    Ok(When::Every(SignedDuration::from_secs((seconds as i64).max(1))))
}

/// One field: values, ranges and steps, separated by commas. `names` are those of the first values.
fn set(field: &str, range: std::ops::RangeInclusive<u64>, names: &[&str]) -> Result<u64, String> {
    let (least, most) = (*range.start(), *range.end());
    let value = |text: &str| -> Result<u64, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|name| *name == lower) {
            return Ok(least + at as u64);
        }
        let value = text.parse().map_err(|_| format!("failed to parse {text:?} as a number: {field}"))?;
        match range.contains(&value) {
            true => Ok(value),
            false => Err(format!("{value} is not between {least} and {most}: {field}")),
        }
    };
    let mut found = 0;
    for part in field.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, Some(step)),
            None => (part, None),
        };
        let (from, to) = match span.split_once('-') {
            _ if matches!(span, "*" | "?") => (least, most),
            Some((from, to)) => (value(from)?, value(to)?),
            // A step after a single value goes on to the end.
            None => (value(span)?, if step.is_some() { most } else { value(span)? }),
        };
        let step = match step.map(str::parse) {
            None => 1,
            Some(Ok(step @ 1u64..)) => step,
            Some(_) => return Err(format!("step must be a positive number: {field}")),
        };
        if from > to {
            return Err(format!("beginning of range ({from}) beyond end of range ({to}): {field}"));
        }
        (from..=to).step_by(step as usize).for_each(|value| found |= 1 << value);
    }
    Ok(found)
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = zone.to_datetime(after).date();
        let last = start.checked_add(YEARS.years()).ok()?;
        let mut day = start;
        while day <= last {
            if self.fits(day)
                && let Some(found) = self.first_on(day, after, zone)
            {
                return Some(found);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    fn fits(&self, day: Date) -> bool {
        let has = |set: u64, value: i8| set & (1 << value) != 0;
        let month = has(self.months, day.month());
        let date = has(self.days, day.day());
        let weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        month && if self.both_days { date && weekday } else { date || weekday }
    }

    /// The first time of a day after a moment. A time that the clocks skip does not happen, one
    /// that they repeat happens once.
    fn first_on(&self, day: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let of = |set: u64, most: i8| (0..=most).filter(move |value| set & (1 << value) != 0);
        let times = of(self.hours, 23).flat_map(|hour| of(self.minutes, 59).map(move |minute| (hour, minute)));
        let mut times = times.filter_map(|(hour, minute)| {
            let moment = zone.to_ambiguous_timestamp(day.to_datetime(Time::new(hour, minute, 0, 0).ok()?));
            if matches!(moment.offset(), AmbiguousOffset::Gap { .. }) { None } else { moment.earlier().ok() }
        });
        times.find(|moment| *moment > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: Option<&str>, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule, zone).expect("readable");
        let mut at = after.parse::<Timestamp>().expect("a time");
        (0..count)
            .map(|_| {
                at = schedule.next(at).expect("a next time");
                at.to_string()
            })
            .collect()
    }

    #[test]
    fn times_follow_the_fields() {
        let table: [(&str, &str, &[&str]); 8] = [
            ("*/20 * * * *", "2026-03-01T10:05:30Z", &["2026-03-01T10:20:00Z", "2026-03-01T10:40:00Z"]),
            ("0 0 * * *", "2026-02-28T00:00:00Z", &["2026-03-01T00:00:00Z"]),
            ("30 9 * * mon-fri", "2026-11-20T12:00:00Z", &["2026-11-23T09:30:00Z", "2026-11-24T09:30:00Z"]),
            ("0 0 29 feb *", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]),
            // Both day fields restricted: either will do.
            ("0 0 13 * 5", "2026-11-01T00:00:00Z", &["2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z"]),
            ("5,10-12/2 0 1 1 ?", "2026-06-01T00:00:00Z", &["2027-01-01T00:05:00Z", "2027-01-01T00:10:00Z"]),
            ("@hourly", "2026-01-01T00:59:59Z", &["2026-01-01T01:00:00Z"]),
            ("@every 1h30m", "2026-01-01T00:00:00Z", &["2026-01-01T01:30:00Z"]),
        ];
        for (schedule, after, expected) in table {
            assert_eq!(next(schedule, None, after, expected.len()), expected, "{schedule}");
        }
    }

    #[test]
    fn clocks_that_are_set_skip_a_time_or_have_it_once() {
        // Berlin: 02:30 does not exist on 29 March 2026 and exists twice on 25 October.
        let spring = next("30 2 * * *", Some("Europe/Berlin"), "2026-03-28T12:00:00Z", 1);
        assert_eq!(spring, ["2026-03-30T00:30:00Z"]);
        let autumn = next("30 2 * * *", Some("Europe/Berlin"), "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn what_is_no_schedule_is_said_so() {
        let table = [
            ("", "expected exactly 5 fields, found 0"),
            ("* * * *", "expected exactly 5 fields, found 4"),
            ("60 * * * *", "60 is not between 0 and 59"),
            ("* * * * 7", "7 is not between 0 and 6"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1)"),
            ("*/0 * * * *", "step must be a positive number"),
            ("x * * * *", "failed to parse \"x\""),
            ("@sometimes", "unrecognized descriptor"),
            ("@every soon", "failed to parse duration"),
            ("TZ=UTC 0 0 * * *", "use timeZone field"),
        ];
        for (text, expected) in table {
            let error = Schedule::parse(text, None).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Schedule::parse("@daily", Some("Europe/Nowhere")).is_err());
        let never = Schedule::parse("0 0 30 2 *", None).expect("readable");
        assert_eq!(never.next("2026-01-01T00:00:00Z".parse().expect("a time")), None);
    }
}
