use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a restarted node must know about a sandbox to go on with it or to clean it up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `metadata.uid` of the pod.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The sandbox's own id: `CNI_CONTAINERID`.
    pub sandbox_id: String,
    /// The pause process.
    pub pid: i32,
    /// When that was started, so that another process with its PID is not taken for it.
    pub start_time: u64,
    /// Whether the pod is on its node's network, so that CNI was never asked.
    pub host_network: bool,
    /// The pod's addresses; empty until CNI ADD succeeded.
    pub addresses: Vec<IpAddr>,
    /// What CNI ADD answered; the specification wants it back at DEL.
    pub cni_result: Option<Value>,
}

/// The records of a node: one directory a pod under `STATE_DIR/UID/`.
#[derive(Debug, Clone)]
pub struct Records {
    dir: PathBuf,
}

const FILE: &str = "sandbox.json";

impl Records {
    /// The records under this directory, which is made if it does not exist.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// Where they all are.
    pub fn root(&self) -> &Path {
        &self.dir
    }

    /// Where everything about one pod is.
    pub fn dir(&self, uid: &str) -> PathBuf {
        self.dir.join(uid)
    }

    /// Writes a record; a crash leaves the old one or the new one, never a part.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let dir = self.dir(&record.uid);
        std::fs::create_dir_all(&dir)?;
        let partial = dir.join("sandbox.json.partial");
        std::fs::write(&partial, serde_json::to_vec(record)?)?;
        std::fs::rename(partial, dir.join(FILE))
    }

    /// Forgets a pod and its files.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        match std::fs::remove_dir_all(self.dir(uid)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Every record there is. A directory without one, or with one that cannot be read, is from a
    /// crash before the sandbox existed, and is removed.
    pub fn load(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let content = std::fs::read(path.join(FILE)).unwrap_or_default();
            match serde_json::from_slice(&content) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "removed a sandbox record that cannot be read");
                    std::fs::remove_dir_all(&path)?;
                }
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(uid: &str) -> Record {
        Record {
            uid: uid.into(),
            namespace: "shop".into(),
            name: "web".into(),
            sandbox_id: "ab".repeat(32),
            pid: 1,
            start_time: 2,
            host_network: false,
            addresses: vec!["10.244.1.2".parse().unwrap()],
            cni_result: Some(serde_json::json!({"cniVersion": "1.1.0"})),
        }
    }

    #[test]
    fn records_survive_and_broken_ones_are_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(&dir.path().join("pods")).unwrap();
        records.save(&record("u1")).unwrap();
        records.save(&record("u2")).unwrap();
        records.remove("u2").unwrap();
        records.remove("u2").unwrap();
        std::fs::create_dir(records.dir("half")).unwrap();
        assert_eq!(records.load().unwrap(), [record("u1")]);
        assert!(!records.dir("half").exists());
    }
}
