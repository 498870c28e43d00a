use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

use crate::skel::ABI_VERSION;
use crate::{Error, Result};

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPFFS: FsType = FsType(0xcafe_4a11);

/// Where things of this ABI are pinned: `maps/NAME` and `links/NAME` below a directory that carries
/// the version, so that programs never meet rows that they would misread.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    maps: PathBuf,
    links: PathBuf,
}

impl Pins {
    pub(crate) fn create(pin_dir: &Path) -> Result<Self> {
        let root = pin_dir.join(format!("v{ABI_VERSION}"));
        let pins = Self { maps: root.join("maps"), links: root.join("links") };
        for dir in [&pins.maps, &pins.links] {
            fs::create_dir_all(dir).map_err(|e| Self::error("create", dir, e))?;
        }
        match statfs(pin_dir) {
            Ok(fs) if fs.filesystem_type() == BPFFS => Ok(pins),
            Ok(_) => Err(Error::Config(format!(
                "{} is not on a bpffs; mount one: mount -t bpf bpf DIRECTORY",
                pin_dir.display()
            ))),
            Err(errno) => Err(Self::error("look at", pin_dir, errno.into())),
        }
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps.join(name)
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.links.join(name)
    }

    /// Removes a pin; one that is gone already is as good.
    pub(crate) fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Self::error("remove", path, error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn error(action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Pin { action, path: path.to_path_buf(), source }
    }
}
