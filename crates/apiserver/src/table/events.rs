use jiff::Timestamp;
use serde_json::Value;

use super::text::{count, name, since};
use super::{Printer, column, number, wide};

/// Both versions of Event: the newer one has the same things under other names.
pub static EVENTS: Printer = Printer {
    columns: &[
        column("Last Seen"),
        column("Type"),
        column("Reason"),
        column("Object"),
        wide("Subobject"),
        wide("Source"),
        column("Message"),
        wide("First Seen"),
        super::Column { priority: 1, ..number("Count") },
        wide("Name"),
    ],
    cells,
};

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let either = |old: &str, new: &str| if event[old].is_null() { &event[new] } else { &event[old] };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = either("involvedObject", "regarding");
    let source = either("source", "deprecatedSource");
    let first = match either("firstTimestamp", "deprecatedFirstTimestamp") {
        Value::Null => &event["eventTime"],
        time => time,
    };
    let last =
        match (&event["series"]["lastObservedTime"], either("lastTimestamp", "deprecatedLastTimestamp")) {
            (Value::Null, Value::Null) => first,
            (Value::Null, time) => time,
            (observed, _) => observed,
        };
    let component = match text(&source["component"]) {
        none if none.is_empty() => text(either("reportingComponent", "reportingController")),
        some => some,
    };
    let source = match text(&source["host"]) {
        none if none.is_empty() => component,
        host => format!("{component}, {host}"),
    };
    let times = match event["series"].is_object() {
        true => count(&event["series"]["count"]),
        false => count(either("count", "deprecatedCount")).max(1),
    };
    vec![
        since(last, now),
        event["type"].clone(),
        event["reason"].clone(),
        format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"])).into(),
        text(&about["fieldPath"]).into(),
        source.into(),
        text(either("message", "note")).trim().into(),
        since(first, now),
        times.into(),
        name(event),
    ]
}
