//! Where a twin keeps what it has on this machine. Everything is found again from this layout
//! alone, so that `down` works after a crash at any point.

use std::path::{Path, PathBuf};

/// The state of all twins. On a tmpfs: a reboot ends every twin anyway.
pub const ROOT: &str = "/run/kilter";

const JOURNAL: &str = "journal";
/// What the next run of a twin whose processes have all died goes on with: the state of its API, and
/// the keys and the port by which clients know it. All else is made anew.
pub const KEPT: [&str; 3] = [JOURNAL, "pki", "api.port"];

/// The directory of one twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    name: String,
    root: PathBuf,
}

impl Layout {
    /// The layout of the twin of this name. The name has been validated (it becomes a file name).
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), root: Path::new(ROOT).join(name) }
    }

    /// The twin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The twin's own directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was asked for.
    pub fn spec(&self) -> PathBuf {
        self.root.join("twin.json")
    }

    /// Held (flock) by whoever brings the twin up or down.
    pub fn lock(&self) -> PathBuf {
        Path::new(ROOT).join(format!(".{}.lock", self.name))
    }

    /// Bind mounts of the twin's network namespaces.
    pub fn namespaces(&self) -> PathBuf {
        self.root.join("ns")
    }

    /// The namespace of the fabric.
    pub fn fabric(&self) -> PathBuf {
        self.namespaces().join("fabric")
    }

    /// The namespace of the internet.
    pub fn internet(&self) -> PathBuf {
        self.namespaces().join("internet")
    }

    /// The namespace of a node.
    pub fn node_namespace(&self, node: &str) -> PathBuf {
        self.namespaces().join(node)
    }

    /// The twin's own BPF file system.
    pub fn bpf(&self) -> PathBuf {
        self.root.join("bpf")
    }

    /// What was broken on purpose and not yet mended.
    pub fn chaos(&self) -> PathBuf {
        self.root.join("chaos.json")
    }

    /// Keys, certificates and tokens.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// The certificate of those who sign for stand-ins.
    pub fn stand_in_certificate(&self) -> PathBuf {
        self.pki().join("stand-ins.crt")
    }

    /// Their key.
    pub fn stand_in_key(&self) -> PathBuf {
        self.pki().join("stand-ins.key")
    }

    /// The kubeconfig by which people reach the API from this machine.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }

    /// The kubeconfig by which the twin's own processes reach the API over the fabric.
    pub fn node_kubeconfig(&self) -> PathBuf {
        self.root.join("node.kubeconfig")
    }

    /// Everything that was ever written to the API.
    pub fn journal(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    /// How often processes were started again.
    pub fn restarts(&self) -> PathBuf {
        self.root.join("restarts.json")
    }

    /// Log of the supervisor.
    pub fn supervisor_log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    /// Log of the control plane.
    pub fn control_log(&self) -> PathBuf {
        self.root.join("control-plane.log")
    }

    /// The directory of a node.
    pub fn node(&self, node: &str) -> PathBuf {
        self.root.join("nodes").join(node)
    }

    /// What a node process is started with.
    pub fn node_config(&self, node: &str) -> PathBuf {
        self.node(node).join("node.json")
    }

    /// Log of a node process.
    pub fn node_log(&self, node: &str) -> PathBuf {
        self.node(node).join("log")
    }

    /// Where a node process answers `status`, `verify` and `bench`.
    pub fn control_socket(&self, node: &str) -> PathBuf {
        self.node(node).join("control.sock")
    }
}

/// Names of the twins that have left anything in [`ROOT`], sorted.
pub fn twins() -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(ROOT) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
