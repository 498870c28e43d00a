//! `kilter diff`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use kilter_manifests::git::{Checkout, revisions};
use kilter_manifests::{Loaded, Options, RefusedUpdate, Source, refused_updates};
use kilter_model::Direction;
use kilter_reach::diff::{Diff, diff};
use kilter_reach::format;
use kilter_twin::UsageError;
use serde_json::{Value, json};

use super::{print, print_json};
use super::target::AddressArgs;
use crate::exit::Outcome;

/// `kilter diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Two files, directories or kustomizations, or one range of revisions: BASE..HEAD, or BASE...HEAD from
    /// where both last were one.
    #[arg(required = true, num_args = 1..=2, value_names = ["OLD", "NEW"])]
    pub what: Vec<String>,
    /// With a range: where the manifests are in the repository; each is a source. Without: here.
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub addresses: AddressArgs,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: DiffOutput,
}

/// How a difference is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiffOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For a comment on a pull request.
    Markdown,
    /// For spreadsheets.
    Csv,
    /// For Graphviz.
    Dot,
}

pub fn run(args: &DiffArgs) -> Result<Outcome> {
    let (old, new) = match args.what.as_slice() {
        [old, new] if args.paths.is_empty() => (directory(old)?, directory(new)?),
        [range] => of_range(range, &args.paths)?,
        _ => return Err(UsageError("paths go with a range: kilter diff BASE..HEAD -- PATH".into()).into()),
    };
    let refused = refused_updates(&old, &new);
    let (old, new) = (kilter_manifests::cluster(&old)?, kilter_manifests::cluster(&new)?);
    let diff = diff(&old, &new, &args.addresses.options());
    refused.iter().for_each(|it| eprintln!("warning: {it}"));
    match args.output {
        DiffOutput::Text => print(&format::text::diff(&diff))?,
        DiffOutput::Json => print_json(&as_json(&diff, &refused))?,
        DiffOutput::Markdown => print(&format::markdown::diff(&diff))?,
        DiffOutput::Csv => print(&format::csv::diff(&diff))?,
        DiffOutput::Dot => print(&format::dot::diff(&diff))?,
    }
    Ok(if diff.is_empty() { Outcome::Clean } else { Outcome::Finding })
}

fn directory(name: &str) -> Result<Loaded> {
    load(&[Source::parse(name)?], |message| message.to_owned())
}

fn of_range(range: &str, paths: &[PathBuf]) -> Result<(Loaded, Loaded)> {
    if !range.contains("..") {
        let message = format!("{range}: compared with what? Name a second directory, or a range BASE..HEAD");
        return Err(UsageError(message).into());
    }
    let here = Path::new(".");
    let revisions = revisions(here, range)?;
    let (old, new) = (Checkout::of(here, &revisions.old)?, Checkout::of(here, &revisions.new)?);
    let paths = if paths.is_empty() { &[PathBuf::from(".")] } else { paths };
    if let Some(path) = paths.iter().find(|it| !old.path(it).exists() && !new.path(it).exists()) {
        let message = format!("{}: neither {} nor {} has it", path.display(), revisions.old, revisions.new);
        return Err(UsageError(message).into());
    }
    Ok((of_revision(&old, &revisions.old, paths)?, of_revision(&new, &revisions.new, paths)?))
}

fn of_revision(checkout: &Checkout, revision: &str, paths: &[PathBuf]) -> Result<Loaded> {
    let short = &revision[..revision.len().min(12)];
    // What a revision does not have yet, or not any more, declares nothing there.
    let found = paths.iter().map(|it| checkout.path(it)).filter(|it| it.exists());
    let sources: Vec<Source> = found.map(Source::Path).collect();
    load(&sources, |message| checkout.plain(message, short)).with_context(|| format!("in revision {short}"))
}

fn load(sources: &[Source], plain: impl Fn(&str) -> String) -> Result<Loaded> {
    let loaded = kilter_manifests::load(sources, &Options::default())?;
    for warning in &loaded.warnings {
        eprintln!("warning: {}", plain(&warning.to_string()));
    }
    Ok(loaded)
}

fn as_json(diff: &Diff, refused: &[RefusedUpdate]) -> Value {
    let change = |it: &kilter_reach::diff::Change| {
        json!({
            "change": it.kind,
            "from": it.from.to_string(),
            "to": it.to.to_string(),
            "before": it.old.to_string(),
            "after": it.new.to_string(),
        })
    };
    let exposure = |it: &kilter_reach::diff::Exposure| {
        let what = it.what.iter().map(|(ports, at)| {
            json!({"ports": ports.to_string(), "addresses": at.iter().map(ToString::to_string).collect::<Vec<_>>()})
        });
        json!({
            "workload": it.workload.to_string(),
            "direction": match it.direction {
                Direction::Ingress => "from the internet",
                Direction::Egress => "to the internet",
            },
            "opened": it.opened,
            "what": what.collect::<Vec<_>>(),
        })
    };
    let names = |set: &std::collections::BTreeSet<kilter_model::WorkloadRef>| {
        set.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    json!({
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        "internet": diff.exposures.iter().map(exposure).collect::<Vec<_>>(),
        "workloadsAdded": names(&diff.workloads_added),
        "workloadsRemoved": names(&diff.workloads_removed),
        "refusedUpdates": refused.iter().map(|it| {
            let faults = it.faults.iter().map(|fault| json!({"field": fault.field, "message": fault.message}));
            json!({"object": it.object, "origin": it.origin.to_string(), "faults": faults.collect::<Vec<_>>()})
        }).collect::<Vec<_>>(),
    })
}
