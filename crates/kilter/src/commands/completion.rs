//! `kilter completion`.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Outcome;

pub fn run(shell: Shell) -> Result<Outcome> {
    // Into memory first: the generator panics where a pipe is closed early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kilter", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Outcome::Clean)
}
