//! Comma-separated values (RFC 4180), with a header.

use crate::connections::{Connection, port_text};
use crate::diff::Diff;

/// `from,to,ports,depends on the address`.
pub fn connections(connections: &[Connection]) -> String {
    let mut text = line(&["from", "to", "ports", "depends on the address"]);
    for it in connections {
        let (ports, depends) = (port_text(&it.ports), port_text(&it.depends_on_address));
        text += &line(&[&it.from.to_string(), &it.to.to_string(), &ports, &depends]);
    }
    text
}

/// `change,from,to,before,after`.
pub fn diff(diff: &Diff) -> String {
    let mut text = line(&["change", "from", "to", "before", "after"]);
    for it in &diff.changes {
        let (old, new) = (it.old.to_string(), it.new.to_string());
        text += &line(&[it.kind.word(), &it.from.to_string(), &it.to.to_string(), &old, &new]);
    }
    text
}

fn line(fields: &[&str]) -> String {
    let fields: Vec<String> = fields.iter().map(|it| field(it)).collect();
    format!("{}\r\n", fields.join(","))
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_would_end_a_field_is_quoted() {
        assert_eq!(
            super::line(&["a", "TCP 80,UDP 53", "say \"x\""]),
            "a,\"TCP 80,UDP 53\",\"say \"\"x\"\"\"\r\n"
        );
    }
}
