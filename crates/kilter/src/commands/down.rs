//! `kilter down`.

use anyhow::Result;

use crate::cli::DownArgs;
use crate::exit::Outcome;

pub fn run(args: &DownArgs) -> Result<Outcome> {
    kilter_twin::check_rights()?;
    let names = match args.all {
        true => kilter_twin::twins()?,
        false => vec![args.name.clone()],
    };
    let mut failed = Vec::new();
    for name in &names {
        match kilter_twin::down(name) {
            Ok(true) => outln!("twin {name} is down"),
            Ok(false) => outln!("no twin named {name}"),
            Err(error) => failed.push(error),
        }
    }
    match failed.pop() {
        Some(error) => Err(error),
        None => Ok(Outcome::Clean),
    }
}
