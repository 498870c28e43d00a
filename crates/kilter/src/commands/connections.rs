//! `kilter connections`.

use anyhow::Result;
use kilter_reach::{Connection, Options, connections, port_text};
use serde_json::{Value, json};

use super::{print_json, sources};
use crate::cli::{ConnectionsArgs, Output};
use crate::exit::Outcome;

pub fn run(args: &ConnectionsArgs) -> Result<Outcome> {
    let loaded = sources::load(&args.source)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let cluster = kilter_manifests::cluster(&loaded)?;
    let options =
        Options { pod_cidrs: vec![args.pod_cidr.into()], ip_blocks_match_pods: !args.ip_blocks_exclude_pods };
    let all = connections(&cluster, &options);
    match args.output {
        Output::Json => print_json(&json!({"connections": all.iter().map(as_json).collect::<Vec<_>>()}))?,
        Output::Text => all.iter().for_each(|connection| println!("{connection}")),
    }
    Ok(Outcome::Clean)
}

fn as_json(connection: &Connection) -> Value {
    let mut value = json!({
        "from": connection.from.to_string(),
        "to": connection.to.to_string(),
        "ports": port_text(&connection.ports),
    });
    if !connection.depends_on_address.is_empty() {
        value["dependsOnAddress"] = port_text(&connection.depends_on_address).into();
    }
    value
}
