use std::collections::HashMap;
use std::sync::OnceLock;

/// How a field is written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Left out where it is zero.
    Plain,
    /// Present wherever it was sent, zero or not.
    Pointer,
    /// A list.
    Repeated,
    /// A map from strings.
    Map,
    /// Its fields are its parent's.
    Inline,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub mark: Mark,
    pub json: &'static str,
    pub kind: &'static str,
}

/// The fields of one message, by number.
pub type Message = HashMap<u32, Field>;

/// A message by name.
pub fn message(name: &str) -> Option<&'static Message> {
    static SCHEMA: OnceLock<HashMap<&str, Message>> = OnceLock::new();
    SCHEMA.get_or_init(|| parse(include_str!("schema.txt"))).get(name)
}

/// Reads the file that `tools/protobuf_schema.py` writes. Lines that it would not write are left out;
/// a test sees to it that there are none.
fn parse(text: &'static str) -> HashMap<&'static str, Message> {
    let mut messages: HashMap<&str, Message> = HashMap::new();
    let mut current = "";
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let parts: Vec<&str> = line.split(' ').collect();
        match parts[..] {
            [name] => {
                current = name;
                messages.entry(name).or_default();
            }
            [number, mark, json, kind] => {
                if let (Ok(number), Some(mark)) = (number.parse(), self::mark(mark)) {
                    messages.entry(current).or_default().insert(number, Field { mark, json, kind });
                }
            }
            _ => {}
        }
    }
    messages
}

fn mark(text: &str) -> Option<Mark> {
    match text {
        "=" => Some(Mark::Plain),
        "?" => Some(Mark::Pointer),
        "*" => Some(Mark::Repeated),
        "%" => Some(Mark::Map),
        "^" => Some(Mark::Inline),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Resource;

    #[test]
    fn every_line_is_understood() {
        let lines = include_str!("schema.txt").lines().filter(|l| !l.starts_with('#'));
        let fields = lines.clone().filter(|l| l.contains(' ')).count();
        let messages = parse(include_str!("schema.txt"));
        assert_eq!(messages.values().map(HashMap::len).sum::<usize>(), fields);
        assert_eq!(messages.len(), lines.filter(|l| !l.contains(' ')).count());
    }

    #[test]
    fn every_kind_that_is_served_has_its_message() {
        // Kubernetes serves this one as a custom resource, and those have no protobuf encoding.
        // Definitions of such are sent as JSON by kubectl and Helm.
        let built_in = |resource: &&Resource| {
            !matches!(resource.kind.group, "policy.networking.k8s.io" | "apiextensions.k8s.io")
        };
        for resource in Resource::all().iter().filter(built_in) {
            let name = super::super::message_name(&resource.kind.api_version(), resource.kind.kind);
            assert!(message(&name).is_some(), "{name}");
        }
    }
}
