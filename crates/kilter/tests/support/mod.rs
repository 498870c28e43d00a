//! A twin for a test: its own name and kubeconfig, taken down whatever happens.

#![allow(dead_code, reason = "each test program uses its own part")]

pub mod outside;
pub mod pod;
pub mod session;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The `kilter` of this build.
pub const KILTER: &str = env!("CARGO_BIN_EXE_kilter");

/// A twin that goes when this is dropped.
pub struct Twin {
    pub name: String,
    home: tempfile::TempDir,
}

impl Twin {
    /// Nothing is brought up yet: see [`Twin::up`].
    pub fn named(name: &str) -> Self {
        // A run that was killed may have left one of this name.
        let twin = Self { name: format!("t-{name}"), home: tempfile::tempdir().unwrap() };
        twin.down();
        twin
    }

    /// `kilter ARGS`, with a kubeconfig of the test's own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(KILTER);
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KILTER_TWIN", &self.name)
            .stdin(Stdio::null());
        command
    }

    /// The kubeconfig into which this twin's context is written.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("config")
    }

    /// Runs `kilter ARGS` for this twin.
    pub fn kilter(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("kilter runs")
    }

    /// Brings the twin up of these sources; panics with all output where it does not come up.
    pub fn up(&self, sources: &[&Path]) -> Value {
        let mut args = vec!["up", "-o", "json"];
        for source in sources {
            args.extend(["-f", source.to_str().unwrap()]);
        }
        let output = self.kilter(&args);
        assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), self.logs());
        serde_json::from_slice(&output.stdout).expect("up -o json prints JSON")
    }

    /// `kilter prove`, which must find every node equal to the model.
    pub fn prove(&self) -> Value {
        let output = self.kilter(&["prove", "-o", "json"]);
        assert!(output.status.success(), "kilter prove: {}", describe(&output));
        serde_json::from_slice(&output.stdout).expect("prove -o json prints JSON")
    }

    /// `kilter verify`, which must find nothing; nor may `kilter prove`.
    pub fn verify(&self) -> Value {
        self.prove();
        let output = self.kilter(&["verify", "-o", "json"]);
        let text = self.kilter(&["verify"]);
        assert!(output.status.success(), "kilter verify: {}", describe(&text));
        serde_json::from_slice(&output.stdout).expect("verify -o json prints JSON")
    }

    /// Takes the twin down; true where that succeeded.
    pub fn down(&self) -> bool {
        self.kilter(&["down"]).status.success()
    }

    /// Runs `kubectl ARGS` against the twin; panics with its output where it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        assert!(output.status.success(), "kubectl {args:?}: {}", describe(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `kubectl ARGS` against the twin.
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        let kubectl = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
        Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(["--context", &format!("kilter-{}", self.name), "--cache-dir"])
            .arg(self.home.path().join("cache"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{kubectl} (set KUBECTL, or run `make setup`): {error}"))
    }

    /// The ends of the logs of the twin's processes.
    pub fn logs(&self) -> String {
        let root = Path::new("/run/kilter").join(&self.name);
        let nodes = std::fs::read_dir(root.join("nodes")).into_iter().flatten().flatten();
        let logs = std::iter::once(root.join("control-plane.log")).chain(nodes.map(|n| n.path().join("log")));
        logs.map(|log| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            format!("== {}\n{}\n", log.display(), lines[lines.len().saturating_sub(25)..].join("\n"))
        })
        .collect()
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        self.down();
    }
}

/// What a process printed and how it ended.
pub fn describe(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The example shop.
pub fn example(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples")).join(name)
}
