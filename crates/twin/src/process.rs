//! The twin's long-running processes: started into their cgroup, told apart from the terminal,
//! and heard of once, when they are ready or have failed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What a process says on its standard output once it serves; nothing else is ever written there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// For a person reading the pipe: which process this is.
    pub process: String,
}

/// A process that was started and has not yet said that it is ready.
pub struct Starting {
    what: String,
    log: PathBuf,
    child: Child,
}

/// Starts `kilter ARGS` in a cgroup, with its standard error in a log file.
pub fn start(what: &str, args: &[&str], cgroup: &Path, log: &Path) -> Result<Starting> {
    let own = std::env::current_exe().context("find this program's own file")?;
    let log_file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open the log {}", log.display()))?;
    let procs = cgroup.join("cgroup.procs");
    let mut group =
        OpenOptions::new().write(true).open(&procs).with_context(|| format!("open {}", procs.display()))?;
    let mut command = Command::new(own);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file).current_dir("/");
    // SAFETY: between fork and exec only write(2) and setsid(2) are called, both async-signal-safe.
    // The child joins its cgroup before it can do anything, so `down` always finds it.
    unsafe {
        command.pre_exec(move || {
            group.write_all(b"0")?;
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    let child = command.spawn().with_context(|| format!("start {what}"))?;
    Ok(Starting { what: what.to_owned(), log: log.to_owned(), child })
}

impl Starting {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process says that it is ready; where it ends instead, the end of its log
    /// is the error.
    pub fn wait(mut self) -> Result<()> {
        let stdout = self.child.stdout.take().context("BUG: the child's output is not piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if serde_json::from_str::<Ready>(&line).is_ok() {
            return Ok(());
        }
        let status = self.child.wait()?;
        bail!("{} ended ({status}) before it was ready:\n{}", self.what, tail(&self.log, 15));
    }
}

/// Says on standard output that this process serves.
pub fn say_ready(process: &str) -> Result<()> {
    let mut line = serde_json::to_string(&Ready { process: process.to_owned() })?;
    line.push('\n');
    let mut out = std::io::stdout();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

/// The last lines of a log, indented.
pub fn tail(log: &Path, lines: usize) -> String {
    let Ok(file) = File::open(log) else { return format!("  (no log at {})", log.display()) };
    let all: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
    let from = all.len().saturating_sub(lines);
    all[from..].iter().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n")
}
