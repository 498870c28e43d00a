//! The command line of Kilter. It parses, calls, prints and exits; what is decided is decided
//! elsewhere.

#![allow(
    missing_docs,
    reason = "fields of the command line are documented where a person reads them: in --help"
)]

#[macro_use]
mod out;
mod cli;
mod commands;
mod exit;
mod progress;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Up(args) => commands::up::run(&args),
        Command::Status(args) => commands::status::run(&args),
        Command::List(args) => commands::list::run(&args),
        Command::Down(args) => commands::down::run(&args),
        Command::Connections(args) => commands::connections::run(&args),
        Command::Lint(args) => commands::lint::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Why(args) => commands::why::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Prove(args) => commands::prove::run(&args),
        Command::Flows(args) => commands::flows::run(&args),
        Command::Node(args) => commands::node::run(args),
        Command::Chaos(args) => commands::chaos::run(args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Completion { shell } => commands::completion::run(shell),
        Command::Run(args) => commands::run::run(args),
    };
    exit::code(result)
}
