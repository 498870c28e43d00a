//! `kilter flows`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use kilter_twin::flows::{self, Connection, Filter, FlowState, Happening, Party, What};

use super::{print_json, runtime};
use crate::cli::{Output, TwinArgs};
use crate::exit::Outcome;
use crate::table;

/// `kilter flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    #[command(flatten)]
    pub twin: TwinArgs,
    /// Go on with what opens and what is refused, as it happens; JSON is one object a line.
    #[arg(long)]
    pub follow: bool,
    /// Only refused packets.
    #[arg(long)]
    pub drops: bool,
    /// The opener: `[ns/]workload`, `[ns/]pod`, `node/NAME` or an address.
    #[arg(long, value_name = "WHO")]
    pub from: Option<String>,
    /// The other end, likewise.
    #[arg(long, value_name = "WHO")]
    pub to: Option<String>,
    /// Either end, likewise.
    #[arg(long, value_name = "WHO")]
    pub with: Option<String>,
    /// Either end is in this namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Seen by this node.
    #[arg(long)]
    pub node: Option<String>,
    /// TCP, UDP, SCTP or ICMP.
    #[arg(long)]
    pub protocol: Option<String>,
    /// The destination's port.
    #[arg(long)]
    pub port: Option<u16>,
}

pub fn run(args: &FlowsArgs) -> Result<Outcome> {
    let spec = kilter_twin::running(&args.twin.name)?;
    let filter = Filter {
        from: args.from.clone(),
        to: args.to.clone(),
        with: args.with.clone(),
        namespace: args.namespace.clone(),
        node: args.node.clone(),
        protocol: args.protocol.clone(),
        port: args.port,
    };
    let runtime = runtime()?;
    let json = args.twin.output == Output::Json;
    if args.follow {
        runtime.block_on(flows::follow(&spec, &filter, args.drops, |happening| say(&happening, json)))?;
    } else if args.drops {
        let drops = runtime.block_on(flows::recent_drops(&spec, &filter))?;
        match json {
            true => print_json(&drops)?,
            false if drops.is_empty() => outln!("nothing was refused lately"),
            false => drops.iter().for_each(|drop| outln!("{}", line(drop))),
        }
    } else {
        let connections = runtime.block_on(flows::connections(&spec, &filter))?;
        match json {
            true => print_json(&connections)?,
            false => out!("{}", text(&connections)),
        }
    }
    Ok(Outcome::Clean)
}

/// Prints one happening; `false` when nobody reads any more.
fn say(happening: &Happening, json: bool) -> bool {
    let line = match json {
        true => serde_json::to_string(happening).unwrap_or_default(),
        false => line(happening),
    };
    writeln!(std::io::stdout(), "{line}").is_ok()
}

fn line(it: &Happening) -> String {
    let at = Timestamp::from_microsecond(it.at as i64).map_or_else(|_| String::new(), |at| format!("{at:.3}"));
    let what = match it.what {
        What::Opened => "opened ",
        What::Retried => "retried",
        What::Dropped => "dropped",
    };
    let mut line =
        format!("{at}  {what}  {}  {} -> {} {}", it.node, party(&it.from), party(&it.to), it.protocol);
    match (it.what, &it.reason, &it.rule) {
        (What::Dropped, reason, rule) => {
            line += &format!("  {}: {}", it.direction, reason.as_deref().unwrap_or("unknown"));
            line += &rule.as_ref().map_or_else(String::new, |rule| format!(", {rule}"));
        }
        (What::Opened, _, Some(rule)) => line += &format!("  {}: {rule}", it.direction),
        (What::Opened, _, None) | (What::Retried, ..) => {}
    }
    line += &it.refused_by.as_ref().map_or_else(String::new, |end| format!("  refused by {}", party(end)));
    line
}

fn text(connections: &[Connection]) -> String {
    let rows: Vec<Vec<String>> = connections
        .iter()
        .map(|it| {
            let state = match it.state {
                FlowState::Opening => "opening",
                FlowState::Established => "established",
                FlowState::Revoked => "REVOKED",
            };
            let rule = |rule: &Option<String>| rule.clone().unwrap_or_else(|| "-".into());
            vec![
                party(&it.from),
                party(&it.to),
                it.protocol.clone(),
                state.into(),
                rule(&it.egress),
                rule(&it.ingress),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => "no connection is open\n".into(),
        false => table::render(&["FROM", "TO", "PROTOCOL", "STATE", "EGRESS", "INGRESS"], &rows),
    }
}

fn party(party: &Party) -> String {
    let who = party.name.clone().unwrap_or_else(|| match party.address {
        std::net::IpAddr::V6(v6) if party.port != 0 => format!("[{v6}]"),
        other => other.to_string(),
    });
    match party.port {
        0 => who,
        port => format!("{who}:{port}"),
    }
}
