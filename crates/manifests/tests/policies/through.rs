//! Text all the way to rows, shared by these tests and the fuzz targets (`fuzz/`).

use kilter_manifests::{Loaded, Options, Source, cluster, load};
use kilter_model::Cluster;
use kilter_policy::{Compiler, Config};

/// Loads a manifest and compiles what it says for a node. Nothing may panic, whatever the text.
///
/// # Errors
/// What the person who wrote the text is told.
pub fn through(text: &str) -> Result<(Loaded, Cluster), Box<dyn std::error::Error>> {
    let source = Source::Text { name: "x.yaml".into(), text: text.to_owned() };
    let loaded = load(&[source], &Options::default())?;
    let cluster = cluster(&loaded)?;
    let pod_cidrs = vec![ipnet::Ipv4Net::new_assert([10, 244, 0, 0].into(), 16).into()];
    for node in [None, Some("n")] {
        // Static pods are on no node: those of a fuzzed text may be on `n`.
        let node = node.unwrap_or_default().into();
        Compiler::new(Config { node, pod_cidrs: pod_cidrs.clone() }).update(&cluster, &[]);
    }
    Ok((loaded, cluster))
}
