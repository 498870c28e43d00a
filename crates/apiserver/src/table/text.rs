use jiff::Timestamp;
use serde_json::Value;

/// What stands where there is nothing.
pub const NONE: &str = "<none>";

/// The object's name.
pub fn name(value: &Value) -> Value {
    value["metadata"]["name"].clone()
}

/// The object's age.
pub fn age(value: &Value, now: Timestamp) -> Value {
    since(&value["metadata"]["creationTimestamp"], now)
}

/// How long ago a `metav1.Time` was.
pub fn since(time: &Value, now: Timestamp) -> Value {
    match moment(time) {
        Some(then) => duration(now.as_second() - then.as_second()).into(),
        None => "<unknown>".into(),
    }
}

/// A `metav1.Time` or `MicroTime`, read.
pub fn moment(time: &Value) -> Option<Timestamp> {
    time.as_str()?.parse().ok()
}

/// Seconds in the two units that matter most (apimachinery `duration.HumanDuration`).
pub fn duration(seconds: i64) -> String {
    let pair = |a: i64, unit: &str, b: i64, small: &str| match b {
        0 => format!("{a}{unit}"),
        b => format!("{a}{unit}{b}{small}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        63_072_000..252_288_000 => pair(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// A number; 0 where absent.
pub fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// A string, or what stands for nothing.
pub fn or_none(value: &Value) -> Value {
    match value.as_str() {
        None | Some("") => NONE.into(),
        Some(text) => text.into(),
    }
}

/// The items of a list; none where absent.
pub fn items(value: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// Strings joined by commas; `<none>` where there are none.
pub fn joined<T: AsRef<str>>(parts: impl Iterator<Item = T>) -> String {
    let parts: Vec<T> = parts.collect();
    if parts.is_empty() {
        return NONE.to_owned();
    }
    parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",")
}

/// Labels as `a=1,b=2`.
pub fn labels(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    joined(pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())))
}

/// A `metav1.LabelSelector` as `kubectl -l` takes it.
pub fn selector(value: &Value) -> String {
    let pairs = value["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<(String, String)> =
        pairs.map(|(k, v)| (k.clone(), format!("{k}={}", v.as_str().unwrap_or_default()))).collect();
    for expression in items(&value["matchExpressions"]) {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = items(&expression["values"]).filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort();
    joined(parts.into_iter().map(|(_, text)| text))
}

/// The first `max` of some strings, and how many more there are; `nothing` where there are none.
pub fn some_of(all: Vec<String>, max: usize, nothing: &str) -> String {
    if all.is_empty() {
        return nothing.to_owned();
    }
    let shown = all[..all.len().min(max)].join(",");
    if all.len() > max { format!("{shown} + {} more...", all.len() - max) } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_those_of_kubectl() {
        let cases = [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (135, "2m15s"),
            (3599, "59m"),
            (3600, "60m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 300, "3h5m"),
            (9 * 3600, "9h"),
            (49 * 3600, "2d1h"),
            (48 * 3600, "2d"),
            (10 * 86_400, "10d"),
            (800 * 86_400, "2y70d"),
            (3000 * 86_400, "8y"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn selectors_are_printed_as_kubectl_takes_them() {
        let value = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&value), "a in (x,y),b=1,!c");
        assert_eq!(selector(&json!({})), NONE);
    }
}
