//! `kilter verify`.

use anyhow::Result;
use kilter_verify::Options;

use super::{print_json, runtime};
use crate::cli::{Output, VerifyArgs};
use crate::exit::Outcome;

pub fn run(args: &VerifyArgs) -> Result<Outcome> {
    let spec = kilter_twin::running(&args.twin.name)?;
    let options = Options { sample: args.sample, ..Options::default() };
    let report = runtime()?.block_on(kilter_verify::verify(&spec, &options))?;
    match args.twin.output {
        Output::Json => print_json(&report)?,
        Output::Text => {
            if args.all {
                report.lines().for_each(|line| outln!("{line}"));
            }
            outln!("{report}");
        }
    }
    Ok(if report.disagreements == 0 { Outcome::Clean } else { Outcome::Finding })
}
