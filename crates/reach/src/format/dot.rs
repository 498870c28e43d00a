//! Graphviz, workloads grouped by namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::connections::{Connection, End};
use crate::diff::{Diff, Kind};

/// Every connection is an arrow.
pub fn connections(connections: &[Connection]) -> String {
    let mut graph = Graph::default();
    for it in connections {
        graph.arrow(&it.from, &it.to, &it.permitted().to_string(), "#444444");
    }
    graph.finish()
}

/// What was added is green, what was removed red, what was changed orange.
pub fn diff(diff: &Diff) -> String {
    let mut graph = Graph::default();
    for it in &diff.changes {
        let (colour, label) = match it.kind {
            Kind::Added => ("#1a7f37", format!("+ {}", it.new)),
            Kind::Changed => ("#bf8700", format!("{} -> {}", it.old, it.new)),
            Kind::Removed => ("#cf222e", format!("- {}", it.old)),
        };
        graph.arrow(&it.from, &it.to, &label, colour);
    }
    graph.finish()
}

#[derive(Default)]
struct Graph {
    /// By namespace; the empty one is the outside.
    nodes: BTreeMap<String, BTreeSet<String>>,
    arrows: String,
}

impl Graph {
    fn arrow(&mut self, from: &End, to: &End, label: &str, colour: &str) {
        for end in [from, to] {
            let namespace = match end {
                End::Workload(it) => it.name.namespace.to_string(),
                _ => String::new(),
            };
            self.nodes.entry(namespace).or_default().insert(end.to_string());
        }
        let (from, to) = (quoted(&from.to_string()), quoted(&to.to_string()));
        let label = quoted(label);
        let _ = writeln!(
            self.arrows,
            "  {from} -> {to} [label={label}, color=\"{colour}\", fontcolor=\"{colour}\"];"
        );
    }

    fn finish(self) -> String {
        let mut text =
            "digraph connections {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n".to_owned();
        for (i, (namespace, nodes)) in self.nodes.iter().enumerate() {
            if namespace.is_empty() {
                nodes.iter().for_each(|it| _ = writeln!(text, "  {} [shape=ellipse];", quoted(it)));
                continue;
            }
            let _ = writeln!(text, "  subgraph cluster_{i} {{\n    label={};", quoted(namespace));
            for node in nodes {
                let short = node.strip_prefix(&format!("{namespace}/")).unwrap_or(node);
                let _ = writeln!(text, "    {} [label={}];", quoted(node), quoted(short));
            }
            text += "  }\n";
        }
        text + &self.arrows + "}\n"
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
