//! A layout as SVG.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::escape;
use super::layout::{Layout, Node};

const NODE_HEIGHT: f64 = 40.0;
const LINE: f64 = 13.0;
const SPACE: f64 = 24.0;
const GAP: f64 = 170.0;
const MARGIN: f64 = 20.0;
/// What an arrow takes of a layer that it crosses.
const PASS: f64 = 6.0;
/// Longer labels are cut; pointing at the arrow shows all of it.
const LABEL: usize = 26;
/// Beyond this many arrows labels would hide one another.
const LABELLED: usize = 45;
const COLOURS: [&str; 8] =
    ["#ddf4ff", "#dafbe1", "#fff8c5", "#ffebe9", "#fbefff", "#ffeff7", "#fff1e5", "#eaeef2"];

struct Box {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// The groups of nodes, each with its colour; with many groups some have the same.
pub fn colours(layout: &Layout) -> BTreeMap<&str, &'static str> {
    let groups: BTreeSet<&str> =
        layout.nodes.iter().map(|it| &*it.group).filter(|it| !it.is_empty()).collect();
    groups.into_iter().zip(COLOURS.into_iter().cycle()).collect()
}

pub fn draw(layout: &Layout) -> String {
    let places = places(layout);
    let right = places.values().map(|it| it.x + it.width).fold(0.0, f64::max) + MARGIN + 60.0;
    let bottom = places.values().map(|it| it.y + it.height).fold(0.0, f64::max) + MARGIN + 40.0;
    let colours = colours(layout);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right:.0}\" height=\"{bottom:.0}\" viewBox=\"0 0 \
         {right:.0} {bottom:.0}\" font-family=\"sans-serif\">\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" \
         refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" \
         fill=\"#57606a\"/></marker></defs>\n"
    );
    let labelled = layout.arrows.len() <= LABELLED;
    let mut labels = String::new();
    for ((from, to), ports) in &layout.arrows {
        let text = ports.iter().cloned().collect::<Vec<_>>().join("; ");
        let ends = [&layout.nodes[*from], &layout.nodes[*to]];
        let passes = layout.passes.get(&(*from, *to)).into_iter().flatten().map(|it| &places[it]);
        let stops: Vec<&Box> = std::iter::once(&places[from]).chain(passes).chain([&places[to]]).collect();
        arrow(&mut svg, &stops, ends, &text, labelled.then_some(&mut labels));
    }
    svg += &labels;
    for (index, node) in layout.nodes.iter().enumerate() {
        let colour = colours.get(&*node.group).copied().unwrap_or("#ffffff");
        draw_node(&mut svg, &places[&index], node, colour);
    }
    svg + "</svg>\n"
}

fn places(layout: &Layout) -> BTreeMap<usize, Box> {
    let height = |it: &usize| layout.nodes.get(*it).map_or(PASS, height);
    let height_of = |layer: &Vec<usize>| layer.iter().map(|it| height(it) + SPACE).sum::<f64>();
    let tallest = layout.layers.iter().map(height_of).fold(0.0, f64::max);
    let mut places = BTreeMap::new();
    let mut x = MARGIN;
    for layer in &layout.layers {
        let width = layer.iter().filter_map(|it| layout.nodes.get(*it)).map(width).fold(0.0, f64::max);
        let mut y = MARGIN + 20.0 + (tallest - height_of(layer)) / 2.0;
        for node in layer {
            let height = height(node);
            places.insert(*node, Box { x, y, width, height });
            y += height + SPACE;
        }
        x += width + GAP;
    }
    places
}

fn width(node: &Node) -> f64 {
    let title = node.title.chars().count() as f64 * 8.2;
    let detail = node.detail.chars().count() as f64 * 6.0;
    let notes = node.notes.iter().map(|it| it.chars().count() as f64 * 6.0).fold(0.0, f64::max);
    (title.max(detail).max(notes) + 24.0).max(90.0)
}

fn height(node: &Node) -> f64 {
    NODE_HEIGHT + node.notes.len() as f64 * LINE
}

fn draw_node(svg: &mut String, place: &Box, node: &Node, colour: &str) {
    let Box { x, y, width, height } = place;
    let middle = x + width / 2.0;
    let [key, title, detail, group] = [&node.key, &node.title, &node.detail, &node.group].map(|it| escape(it));
    let _ = writeln!(
        svg,
        "<g class=\"node\" data-key=\"{key}\" data-group=\"{group}\"><title>{key}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" \
         width=\"{width:.1}\" height=\"{height}\" rx=\"6\" fill=\"{colour}\" stroke=\"#57606a\"/>\
         <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"14\" fill=\"#1f2328\">{title}</text>\
         <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#57606a\">{detail}</text>",
        y + 18.0,
        y + 32.0
    );
    for (i, note) in node.notes.iter().enumerate() {
        let at = y + 32.0 + LINE * (i as f64 + 1.0);
        let note = escape(note);
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{at:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#0550ae\">{note}</text>"
        );
    }
    svg.push_str("</g>\n");
}

/// From the right edge of one to the left edge of the next, and across where it only passes; what
/// goes back goes around below.
fn arrow(
    svg: &mut String,
    stops: &[&Box],
    [source, target]: [&Node; 2],
    text: &str,
    labels: Option<&mut String>,
) {
    let [from_key, to_key, full] = [&source.key, &target.key, text].map(|it| escape(it));
    let data = format!("class=\"arrow\" data-from=\"{from_key}\" data-to=\"{to_key}\"");
    let mut path = String::new();
    let mut last = [(0.0, 0.0); 4];
    for (number, ends) in stops.windows(2).enumerate() {
        last = curve(ends[0], ends[1]);
        let [(x1, y1), (cx1, cy1), (cx2, cy2), (x2, y2)] = last;
        let begin = if number == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{begin}{x1:.1} {y1:.1}C{cx1:.1} {cy1:.1} {cx2:.1} {cy2:.1} {x2:.1} {y2:.1}");
    }
    let _ = writeln!(
        svg,
        "<g {data}><title>{from_key} =&gt; {to_key} : {full}</title><path d=\"{path}\" fill=\"none\" \
         stroke=\"#57606a\" stroke-width=\"1.2\" marker-end=\"url(#tip)\"/></g>"
    );
    let Some(labels) = labels else { return };
    // Nearer to the target than the middle: arrows of one caller have parted there.
    let t = 0.62_f64;
    let at = |a: f64, b: f64, c: f64, d: f64| {
        let u = 1.0 - t;
        u * u * u * a + 3.0 * u * u * t * b + 3.0 * u * t * t * c + t * t * t * d
    };
    let [a, b, c, d] = last;
    let (x, y) = (at(a.0, b.0, c.0, d.0), at(a.1, b.1, c.1, d.1));
    let short: String = text.chars().take(LABEL).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    let _ = writeln!(
        labels,
        "<text {data} x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#0550ae\" \
         stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">{}{dots}</text>",
        y - 3.0,
        escape(&short)
    );
}

/// A cubic Bézier curve: its ends, and what pulls it on the way.
fn curve(from: &Box, to: &Box) -> [(f64, f64); 4] {
    let (x1, y1) = (from.x + from.width, from.y + from.height / 2.0);
    let (x2, y2) = (to.x, to.y + to.height / 2.0);
    let back = x2 < x1;
    let reach = if back { 90.0 } else { (x2 - x1) / 2.0 };
    let dip = if back { from.height.max(to.height) + 20.0 } else { 0.0 };
    [(x1, y1), (x1 + reach, y1 + dip), (x2 - reach, y2 + dip), (x2, y2)]
}
