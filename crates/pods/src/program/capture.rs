use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::place::Place;
use super::start::{Program, exit_code, spawn};

/// As much output of a probe is kept (kubernetes `pkg/probe/exec`).
const OUTPUT_BYTES: usize = 10 << 10;

/// How long output is awaited after a program has ended, since something that it left running may
/// hold its pipes open.
const LAST_OUTPUT: Duration = Duration::from_millis(100);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its exit code; 128 and the signal's number for a signal.
    pub code: i32,
    /// The beginning of what it printed.
    pub output: String,
}

/// Why it did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It took longer than allowed and was killed.
    #[error("command {command:?} timed out after {}s", limit.as_secs())]
    Timeout {
        /// The command.
        command: Vec<String>,
        /// How long it was given.
        limit: Duration,
    },
    /// It could not be run.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Runs a program to its end, with what it prints.
pub async fn run(program: Program, place: Place, limit: Duration) -> Result<Captured, RunError> {
    let command = program.command.clone();
    let ended = tokio::time::timeout(limit, capture(program, place)).await;
    ended.map_err(|_| RunError::Timeout { command, limit })?.map_err(RunError::Failed)
}

async fn capture(program: Program, place: Place) -> anyhow::Result<Captured> {
    let mut child = tokio::task::spawn_blocking(move || spawn(program, &place)).await??.child;
    let _group = Group(child.id());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut reading = std::pin::pin!(async { tokio::join!(read(stdout, &mut output), read(stderr, &mut errors)) });
        tokio::select! {
            _ = &mut reading => child.wait().await?,
            status = child.wait() => {
                let _ = tokio::time::timeout(LAST_OUTPUT, reading).await;
                status?
            }
        }
    };
    output.append(&mut errors);
    output.truncate(OUTPUT_BYTES);
    Ok(Captured { code: exit_code(status), output: String::from_utf8_lossy(&output).trim_end().to_owned() })
}

async fn read(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4096];
    // What goes beyond is read as well: a full pipe would hold the program up.
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let room = OUTPUT_BYTES.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..length.min(room)]);
    }
}

/// Ends a program and what it started when nobody waits for it any more.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(leader), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
