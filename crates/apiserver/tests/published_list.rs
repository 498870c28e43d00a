//! `API.md` is the published list of what is served; here it is kept true.

use std::fmt::Write;

use kilter_apiserver::Resource;
use kilter_objects::kinds::Handling;

fn list() -> String {
    let mut out = String::from(include_str!("published_list.head.md"));
    for resource in Resource::all() {
        let kind = resource.kind;
        let mut subresources: Vec<&str> = resource.subresources.iter().map(|s| s.name).collect();
        subresources.extend(kind.scale.then_some("scale"));
        subresources.extend(kind.status.then_some("status"));
        let scope = if kind.namespaced { "namespace" } else { "cluster" };
        let handling = match kind.handling {
            Handling::Acts => "acts",
            Handling::Analyses => "analyses",
            Handling::Stores => "stores",
        };
        let subresources = subresources.join(", ");
        let cells = [&kind.api_version(), kind.kind, kind.plural, scope, &subresources, handling].join(" | ");
        writeln!(out, "| {cells} |").expect("written");
    }
    out
}

#[test]
fn the_published_list_is_what_is_served() {
    let expected = list();
    if expected != include_str!("../API.md") {
        let written = std::env::temp_dir().join("API.md");
        std::fs::write(&written, expected).expect("written");
        panic!("crates/apiserver/API.md is out of date; what it should be is in {}", written.display());
    }
}
