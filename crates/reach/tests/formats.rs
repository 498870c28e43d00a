//! What people read: golden files of each form, and a picture in which nothing covers anything else.

use std::path::Path;

use kilter_manifests::Source;
use kilter_model::Cluster;
use kilter_reach::diff::diff;
use kilter_reach::why::explain;
use kilter_reach::{Options, connections, format};

fn cluster(sources: &[Source]) -> Cluster {
    let loaded = kilter_manifests::load(sources, &kilter_manifests::Options::default()).unwrap();
    kilter_manifests::cluster(&loaded).unwrap()
}

fn shop() -> Source {
    // Relative, so that the paths in answers are the same everywhere.
    Source::Path(Path::new("../../examples/shop").to_owned())
}

/// The database opens to the outside, the cart loses payments, a workload comes.
const CHANGE: &str = r#"
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: database, namespace: shop}, spec: {podSelector: {matchLabels: {app: database}}, policyTypes: [Ingress], ingress: [{ports: [{port: 5432}, {port: 22}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: cart, namespace: shop}, spec: {podSelector: {matchLabels: {app: cart}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: storefront}}}], ports: [{port: http}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: probe, namespace: tools}, spec: {containers: [{name: a, image: a}]}}
"#;

#[test]
fn a_diff_is_read_by_people() {
    let change = Source::Text { name: "change.yaml".into(), text: CHANGE.into() };
    let diff = diff(&cluster(&[shop()]), &cluster(&[shop(), change]), &Options::default());
    insta::assert_snapshot!("diff_text", format::text::diff(&diff));
    insta::assert_snapshot!("diff_markdown", format::markdown::diff(&diff));
}

#[test]
fn every_listed_connection_is_explained_by_rules_that_permit_it() {
    let (shop, options) = (cluster(&[shop()]), Options::default());
    for connection in connections(&shop, &options) {
        let cases = explain(&shop, &options, &connection);
        assert!(!cases.is_empty(), "{connection}");
        for case in &cases {
            assert!(case.verdict.is_allow(), "{case}");
            assert_eq!(case.ports.difference(&connection.ports), Default::default(), "{connection}\n{case}");
        }
    }
}

/// The boxes of a picture: x, y, width, height.
fn boxes(svg: &str) -> Vec<(f64, f64, f64, f64)> {
    let attribute = |text: &str, name: &str| -> f64 {
        let start = text.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
        text[start..].split('"').next().unwrap().parse().unwrap()
    };
    let rects = svg.match_indices("<rect").map(|(at, _)| &svg[at..]);
    rects
        .map(|it| (attribute(it, "x"), attribute(it, "y"), attribute(it, "width"), attribute(it, "height")))
        .collect()
}

#[test]
fn no_box_of_a_picture_covers_another() {
    let all = connections(&cluster(&[shop()]), &Options::default());
    let boxes = boxes(&format::html::picture(&all));
    assert!(boxes.len() >= 7, "one for each workload");
    for (i, a) in boxes.iter().enumerate() {
        for b in &boxes[i + 1..] {
            let apart = a.0 + a.2 < b.0 || b.0 + b.2 < a.0 || a.1 + a.3 < b.1 || b.1 + b.3 < a.1;
            assert!(apart, "{a:?} {b:?}");
        }
    }
}
