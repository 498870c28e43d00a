//! `kilter lint`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use kilter_lint::{Finding, Severity, lint, sarif};
use kilter_model::Origin;
use serde_json::{Value, json};

use super::{print, print_json};
use super::target::{self, TargetArgs};
use crate::exit::Outcome;

/// `kilter lint`.
#[derive(Debug, Args)]
pub struct LintArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Only what is proven to be broken, no missing practice.
    #[arg(long)]
    pub errors_only: bool,
    /// How to print the findings.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: LintOutput,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LintOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// SARIF 2.1.0, for code scanners.
    Sarif,
}

pub fn run(args: &LintArgs) -> Result<Outcome> {
    let loaded = target::objects(&args.target)?;
    let mut findings = lint(&loaded, &args.target.addresses.options())?;
    findings.retain(|it| !args.errors_only || it.rule.severity() == Severity::Error);
    match args.output {
        LintOutput::Text => print(&text(&findings))?,
        LintOutput::Json => {
            print_json(&json!({"findings": findings.iter().map(as_json).collect::<Vec<_>>()}))?
        }
        LintOutput::Sarif => print_json(&sarif(&findings, env!("CARGO_PKG_VERSION")))?,
    }
    Ok(if findings.is_empty() { Outcome::Clean } else { Outcome::Finding })
}

fn text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing found\n".to_owned();
    }
    let count = |severity| findings.iter().filter(|it| it.rule.severity() == severity).count();
    let all: String = findings.iter().map(ToString::to_string).collect();
    format!("{all}\n{} proven, {} missing practice\n", count(Severity::Error), count(Severity::Warning))
}

fn as_json(finding: &Finding) -> Value {
    let (file, line) = match &finding.origin {
        Origin::File { path, line } => (Some(&**path), Some(*line)),
        _ => (None, None),
    };
    json!({
        "rule": finding.rule.id,
        "name": finding.rule.name,
        "severity": finding.rule.severity(),
        "object": finding.object,
        "file": file,
        "line": line,
        "message": finding.message,
        "breaks": finding.breaks,
        "letsThrough": finding.lets_through,
        "fix": finding.fix,
    })
}
