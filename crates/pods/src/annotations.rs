//! The values of `kilter.dev/` annotations. An error says which annotation, what is wrong with its
//! value, and what a value looks like. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// Reads one annotation; nothing without it.
pub fn read<T>(
    annotations: &BTreeMap<String, String>,
    key: &str,
    parse: impl Fn(&str) -> Option<T>,
    looks_like: &str,
) -> Result<Option<T>, String> {
    let Some(value) = annotations.get(key) else { return Ok(None) };
    let wrong = || format!("annotation {key}: {value:?} is not {looks_like}");
    parse(value.trim()).map(Some).ok_or_else(wrong)
}

/// What a [`duration`] looks like.
pub const DURATION: &str = "a duration such as 250ms, 1.5s or 2m";

/// `250ms`, `1.5s`, `2m`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(positive(number)? * seconds).ok()
}

/// What a [`share`] looks like.
pub const SHARE: &str = "a share such as 5% or 0.05, between nothing and all";

/// `5%` or `0.05`, as a fraction of one.
pub fn share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => positive(percent.trim_end())? / 100.0,
        None => positive(text)?,
    };
    (share <= 1.0).then_some(share)
}

/// What a [`bits`] rate looks like.
pub const BITS: &str = "a rate in bits a second such as 512k, 10M or 1G";

/// `10M`, as `kubernetes.io/egress-bandwidth` has it: bits a second.
pub fn bits(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let scale = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return None,
    };
    let bits = positive(number)? * scale;
    (bits >= 8.0).then_some(bits as u64)
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    text.split_at(end)
}

fn positive(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_their_units_and_nothing_else_is() {
        let millis = |text| duration(text).map(|it| it.as_millis());
        assert_eq!(["250ms", "1.5s", "2m"].map(millis), [Some(250), Some(1500), Some(120_000)]);
        assert_eq!(["", "5", "s", "-1s", "1h", "1e400s"].map(millis), [None; 6]);
        assert_eq!(["5%", "0.05", "100%", "0"].map(share), [Some(0.05), Some(0.05), Some(1.0), Some(0.0)]);
        assert_eq!(["", "101%", "1.1", "-1", "many", "NaN"].map(share), [None; 6]);
        assert_eq!(["64", "512k", "1.5M", "1G"].map(bits), [Some(64), Some(512_000), Some(1_500_000), Some(1_000_000_000)]);
        assert_eq!(["", "1", "10MB", "fast"].map(bits), [None; 4]);
    }

    #[test]
    fn an_error_says_which_annotation_and_what_a_value_looks_like() {
        let annotations = BTreeMap::from([("kilter.dev/delay".to_owned(), "soon".to_owned())]);
        assert_eq!(
            read(&annotations, "kilter.dev/delay", duration, DURATION).unwrap_err(),
            "annotation kilter.dev/delay: \"soon\" is not a duration such as 250ms, 1.5s or 2m"
        );
        assert_eq!(read(&annotations, "kilter.dev/other", duration, DURATION), Ok(None));
    }
}
