//! One page that needs nothing else: a picture of the connections and their list.

mod layout;
mod notes;
mod svg;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::connections::{Connection, End};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn connections(connections: &[Connection]) -> String {
    let mut rows = String::new();
    for it in connections {
        let [from, to, ports] =
            [it.from.to_string(), it.to.to_string(), it.permitted().to_string()].map(|it| escape(&it));
        let _ = writeln!(rows, "<tr><td>{from}</td><td>{to}</td><td>{ports}</td></tr>");
    }
    let layout = layout(connections);
    let (picture, legend, count) = (svg::draw(&layout), legend(&layout), connections.len());
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Connections</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>{count} permitted connections</h1>\n\
         <p>Point at a workload or a namespace to see its own, click to keep it. An arrow goes from who opens a \
         connection to whom; ◂ and ▸ stand for arrows from and to everybody.</p>\n\
         <p class=\"groups\">{legend}<label><input type=\"checkbox\" id=\"whole\"> the whole picture</label></p>\n\
         <div class=\"picture\">{picture}</div>\n\
         <p><input id=\"filter\" placeholder=\"filter the list\" aria-label=\"filter the list\"></p>\n\
         <table><thead><tr><th>from</th><th>to</th><th>ports</th></tr></thead><tbody>\n{rows}</tbody></table>\n\
         <script>{SCRIPT}</script></body></html>\n"
    )
}

/// The picture alone, as SVG.
pub fn picture(connections: &[Connection]) -> String {
    svg::draw(&layout(connections))
}

/// A button for each namespace, in its colour.
fn legend(layout: &layout::Layout) -> String {
    let button = |(group, colour): (&str, &str)| {
        let group = escape(group);
        format!("<button data-group=\"{group}\" style=\"background:{colour}\">{group}</button> ")
    };
    svg::colours(layout).into_iter().map(button).collect()
}

fn layout(connections: &[Connection]) -> layout::Layout {
    let notes = notes::of(connections);
    let arrows: Vec<layout::Arrow> = connections
        .iter()
        .filter(|it| !notes.stands_for(it))
        .map(|it| layout::Arrow {
            from: it.from.to_string(),
            to: it.to.to_string(),
            label: it.permitted().to_string(),
        })
        .collect();
    let ends: BTreeMap<String, &End> = connections
        .iter()
        .flat_map(|it| [&it.from, &it.to])
        .filter(|it| !matches!(it, End::External(_)))
        .map(|it| (it.to_string(), it))
        .collect();
    let nodes = ends.into_iter().map(|(key, end)| node(end, notes.at(&key), key)).collect();
    layout::Layout::of(nodes, arrows)
}

fn node(end: &End, notes: Vec<String>, key: String) -> layout::Node {
    match end {
        End::Workload(it) => layout::Node {
            title: it.name.name.to_string(),
            group: it.name.namespace.to_string(),
            detail: format!("{} · {}", it.name.namespace, it.kind),
            notes,
            key,
        },
        other => {
            layout::Node { title: other.to_string(), group: String::new(), detail: String::new(), notes, key }
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
