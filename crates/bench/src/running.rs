//! A twin that a benchmark brings up by the program's own commands, as a person would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Taken down at the latest when dropped.
pub(crate) struct RunningTwin {
    program: PathBuf,
    name: String,
    up: bool,
    options: Vec<String>,
    /// The person's own kubeconfig is none of a benchmark's business.
    kubeconfig: TempDir,
}

impl RunningTwin {
    /// Further options of `up`.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options = options.iter().map(ToString::to_string).collect();
        self
    }

    /// Not up yet; `label` tells the twins of one process apart.
    pub(crate) fn new(program: &Path, label: &str) -> Result<Self> {
        let kubeconfig = tempfile::tempdir().context("make a directory for the twin's kubeconfig")?;
        let name = format!("bench-{}-{label}", std::process::id());
        Ok(Self { program: program.into(), name, up: false, options: Vec::new(), kubeconfig })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `kilter up`; returns when every pod is ready.
    pub(crate) fn up(&mut self, nodes: u32, sources: &[String]) -> Result<()> {
        let command = self.up_command(nodes, sources);
        finish(command)
    }

    /// Like [`up`](Self::up), and leaves the thread to others meanwhile.
    pub(crate) async fn up_async(&mut self, nodes: u32, sources: &[String]) -> Result<()> {
        let command = self.up_command(nodes, sources);
        let said = line(&command);
        let output = tokio::process::Command::from(command).output().await;
        judge(&said, output)
    }

    fn up_command(&mut self, nodes: u32, sources: &[String]) -> Command {
        let mut command = self.command("up");
        command.args(["--nodes", &nodes.to_string()]);
        command.args(&self.options);
        for source in sources {
            command.args(["-f", source]);
        }
        // Also when it fails half-way: `down` finds whatever is there.
        self.up = true;
        command
    }

    /// `kilter verify` of so many pods.
    pub(crate) fn verify(&self, sample: u32) -> Result<()> {
        let mut command = self.command("verify");
        command.args(["--sample", &sample.to_string()]);
        finish(command)
    }

    /// `kilter node`.
    pub(crate) fn node(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command("node");
        command.args(arguments);
        finish(command)
    }

    /// `kilter prove`.
    pub(crate) fn prove(&self) -> Result<()> {
        finish(self.command("prove"))
    }

    /// `kilter down`.
    pub(crate) fn down(mut self) -> Result<()> {
        self.up = false;
        finish(self.command("down"))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([verb, "--name", &self.name]).stdin(Stdio::null());
        command.env("KUBECONFIG", self.kubeconfig.path().join("config"));
        command
    }
}

impl Drop for RunningTwin {
    fn drop(&mut self) {
        if self.up
            && let Err(error) = finish(self.command("down"))
        {
            eprintln!("bench: {error:#}");
        }
    }
}

fn finish(mut command: Command) -> Result<()> {
    let said = line(&command);
    judge(&said, command.output())
}

fn judge(command: &str, output: std::io::Result<Output>) -> Result<()> {
    let output = output.with_context(|| format!("run `{command}`"))?;
    if !output.status.success() {
        bail!("`{command}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
