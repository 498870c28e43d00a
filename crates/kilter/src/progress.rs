//! Progress on long work, on standard error: one changing line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kilter_twin::Step;

/// Shows the steps of `kilter up`.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// To the terminal, if there is one.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("BUG: a template"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, last: String::new() }
    }

    /// A step has begun.
    pub fn step(&mut self, step: Step) {
        if let Step::Warning(text) = step {
            return self.warn(&text);
        }
        let text = describe(&step);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            // Every pod that becomes ready is too much for a log; the last one is what matters.
            None if matches!(step, Step::Pods { ready, wanted } if ready != wanted) => {}
            None if text != self.last => {
                eprintln!("{text}");
                self.last = text;
            }
            None => {}
        }
    }

    /// Something worth knowing that does not stop anything.
    pub fn warn(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("warning: {text}")),
            None => eprintln!("warning: {text}"),
        }
    }

    /// Takes the changing line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Resuming => "going on with what an earlier run has left".into(),
        Step::Fabric => "laying the fabric".into(),
        Step::ControlPlane => "starting the control plane".into(),
        Step::Nodes(nodes) => format!("starting {nodes} nodes"),
        Step::Objects(objects) => format!("applying {objects} objects"),
        Step::Pods { ready, wanted } => format!("{ready} of {wanted} pods ready"),
        Step::Warning(text) => text.clone(),
    }
}
