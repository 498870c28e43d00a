//! `kilter connections`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use kilter_reach::format;
use kilter_reach::why::{Case, Subject, explain, find};
use kilter_reach::{Connection, connections, port_text};
use kilter_twin::UsageError;
use serde_json::{Value, json};

use super::target::{self, Target, TargetArgs};
use super::{print, print_json};
use crate::exit::Outcome;

/// `kilter connections`.
#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Only connections of these workloads: [NAMESPACE/]NAME, several with commas.
    #[arg(long, value_name = "WORKLOAD", value_delimiter = ',')]
    pub focus: Vec<String>,
    /// With --focus: only connections to those workloads, or only from them.
    #[arg(long, value_enum, requires = "focus")]
    pub direction: Option<Direction>,
    /// Behind each line the rules that permit it, with file and line (text and JSON).
    #[arg(long)]
    pub explain: bool,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: ConnectionsOutput,
}

/// Which way, seen from the workloads in focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// To them.
    Ingress,
    /// From them.
    Egress,
}

/// How connections are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConnectionsOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
    /// For documents.
    Markdown,
    /// For Graphviz.
    Dot,
    /// A page with a picture, for a browser.
    Html,
}

pub fn run(args: &ConnectionsArgs) -> Result<Outcome> {
    let explainable = matches!(args.output, ConnectionsOutput::Text | ConnectionsOutput::Json);
    if args.explain && !explainable {
        return Err(UsageError("--explain goes with -o text and -o json".into()).into());
    }
    let target = target::load(&args.target)?;
    kilter_reach::warnings(&target.cluster).iter().for_each(|it| eprintln!("warning: {it}"));
    let mut all = connections(&target.cluster, &target.options);
    if !args.focus.is_empty() {
        let focus = titles(&target, &args.focus)?;
        all.retain(|it| in_focus(it, &focus, args.direction));
    }
    match args.output {
        ConnectionsOutput::Text => {
            let lines: String = all.iter().map(|it| text(args, &target, it)).collect();
            print(&lines)?;
        }
        ConnectionsOutput::Json => {
            let all: Vec<Value> = all.iter().map(|it| as_json(args, &target, it)).collect();
            print_json(&json!({"connections": all}))?;
        }
        ConnectionsOutput::Csv => print(&format::csv::connections(&all))?,
        ConnectionsOutput::Markdown => print(&format::markdown::connections(&all))?,
        ConnectionsOutput::Dot => print(&format::dot::connections(&all))?,
        ConnectionsOutput::Html => print(&format::html::connections(&all))?,
    }
    Ok(Outcome::Clean)
}

/// The workloads in focus, as connections name them.
fn titles(target: &Target, names: &[String]) -> Result<Vec<String>> {
    names
        .iter()
        .map(|name| match find(&target.cluster, name)? {
            Subject::Pods { title, .. } => Ok(title),
            _ => Err(UsageError(format!("--focus {name}: name a workload")).into()),
        })
        .collect()
}

fn in_focus(connection: &Connection, focus: &[String], direction: Option<Direction>) -> bool {
    let is = |end: &kilter_reach::End| focus.contains(&end.to_string());
    match direction {
        Some(Direction::Ingress) => is(&connection.to),
        Some(Direction::Egress) => is(&connection.from),
        None => is(&connection.from) || is(&connection.to),
    }
}

fn text(args: &ConnectionsArgs, target: &Target, connection: &Connection) -> String {
    let mut text = format!("{connection}\n");
    if args.explain {
        for Case { ports, egress, ingress, .. } in explain(&target.cluster, &target.options, connection) {
            text += &format!("    {}\n", port_text(&ports));
            text += &format!("      egress   {}\n      ingress  {}\n", egress.text, ingress.text);
        }
    }
    text
}

fn as_json(args: &ConnectionsArgs, target: &Target, connection: &Connection) -> Value {
    let mut value = json!({
        "from": connection.from.to_string(),
        "to": connection.to.to_string(),
        "ports": port_text(&connection.ports),
    });
    if !connection.depends_on_address.is_empty() {
        value["dependsOnAddress"] = port_text(&connection.depends_on_address).into();
    }
    if args.explain {
        value["because"] = json!(explain(&target.cluster, &target.options, connection));
    }
    value
}
