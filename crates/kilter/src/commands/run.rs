//! `kilter run`: the processes of a twin.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use super::runtime;
use crate::cli::RunCommand;
use crate::exit::Outcome;

pub fn run(command: RunCommand) -> Result<Outcome> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KILTER_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match command {
        RunCommand::ControlPlane { spec } => control_plane(&spec)?,
        RunCommand::Node { config } => node(&config)?,
        RunCommand::Supervisor { spec } => runtime()?.block_on(kilter_twin::supervisor::run(&read(&spec)?))?,
    }
    Ok(Outcome::Clean)
}

fn control_plane(spec: &Path) -> Result<()> {
    let spec = read(spec)?;
    let sockets = kilter_twin::control_plane::enter(&spec)?;
    workers()?.block_on(kilter_twin::control_plane::run(&spec, sockets))
}

fn node(config: &Path) -> Result<()> {
    let config: kilter_node::Config = read(config)?;
    // Before any thread is started, so that all of them are inside.
    kilter_node::enter(&config)?;
    workers()?.block_on(async {
        let mut termination = kilter_twin::Termination::catch()?;
        let node = kilter_node::Node::start(config).await?;
        kilter_twin::say_ready(node.name())?;
        termination.wait().await;
        node.stop().await
    })
}

fn workers() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("start a runtime")
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not what this process expects", path.display()))
}
