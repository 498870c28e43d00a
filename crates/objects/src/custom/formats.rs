//! The `format`s of strings and numbers that are checked. As in Kubernetes, others say nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;

/// Whether a text is of a format; `true` for formats that are not checked.
pub(super) fn text(format: &str, text: &str) -> bool {
    match format {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "ip" => text.parse::<IpAddr>().is_ok(),
        "cidr" => text.parse::<IpNet>().is_ok(),
        "date" => text.parse::<Date>().is_ok() && text.len() == 10,
        "date-time" | "datetime" => text.parse::<Timestamp>().is_ok(),
        "uuid" => uuid(text),
        "mac" => mac(text),
        "byte" => base64(text),
        _ => true,
    }
}

/// Whether a whole number is in the range of its format.
pub(super) fn number(format: &str, value: f64) -> bool {
    match format {
        "int32" => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value),
        "int64" => value.abs() <= i64::MAX as f64,
        "float" => value.abs() <= f64::from(f32::MAX),
        _ => true,
    }
}

fn uuid(text: &str) -> bool {
    let hex: String = text.split('-').collect();
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let shape = matches!(groups[..], [8, 4, 4, 4, 12] | [32]);
    shape && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Standard alphabet, padded (RFC 4648).
fn base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    text.len().is_multiple_of(4)
        && padding <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}
