use std::io;
use std::path::PathBuf;

/// What the data plane returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the data plane could not do what it was asked. Messages say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This machine, or this process, cannot run the data plane at all.
    #[error("this machine cannot run the data plane: {missing}; {remedy}")]
    Unsupported {
        /// What is missing.
        missing: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The configuration contradicts itself or the machine.
    #[error("data plane configuration: {0}")]
    Config(String),
    /// The kernel refused the programs. The verifier's log is in the trace, as a warning.
    #[error("load the programs into the kernel")]
    Load(#[source] libbpf_rs::Error),
    /// A map could not be read or written.
    #[error("{action} in table {table}")]
    Table {
        /// What was tried.
        action: &'static str,
        /// On which table.
        table: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A table has reached its size.
    #[error("table {table} is full: it holds {size} rows")]
    Full {
        /// Which table.
        table: &'static str,
        /// Its size.
        size: u32,
    },
    /// A hook could not be attached or replaced.
    #[error("attach {program} to {target}")]
    Attach {
        /// The program.
        program: &'static str,
        /// An interface or a cgroup.
        target: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or directory of pins could not be used.
    #[error("{action} {}", path.display())]
    Pin {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Pinned state does not fit these programs although it carries their ABI version.
    #[error("pinned table {table} was made by another build; remove {} to start afresh", path.display())]
    Foreign {
        /// Which table.
        table: String,
        /// Where it is pinned.
        path: PathBuf,
    },
    /// A program run on demand failed.
    #[error("run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The events cannot be read.
    #[error("read events")]
    Events(#[source] io::Error),
}
