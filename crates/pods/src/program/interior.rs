use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::capture::{Captured, RunError, run};
use super::place::Place;
use super::start::Program;

/// The inside of a container, for those who execute programs in it.
#[derive(Debug, Clone)]
pub struct Interior {
    /// Its namespaces.
    pub place: Place,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// Where its programs start.
    pub working_dir: PathBuf,
    /// Who they run as, if not root.
    pub user: Option<(u32, u32)>,
}

impl Interior {
    /// A program that runs here as the container's own does, without input.
    pub fn program(&self, command: Vec<String>) -> Program {
        Program {
            command,
            environment: self.environment.clone(),
            working_dir: self.working_dir.clone(),
            user: self.user,
            stdin: false,
            tty: false,
        }
    }

    /// Runs a program to its end.
    pub async fn run(&self, command: Vec<String>, limit: Duration) -> Result<Captured, RunError> {
        run(self.program(command), self.place.clone(), limit).await
    }
}
