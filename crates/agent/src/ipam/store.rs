use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Millis, Reservation, Stage};

/// Reservations on disk, `CONTAINER.STAGE` each, and `freed.json`.
///
/// Every file is written whole and renamed into place. Nothing is flushed to the disk: a file survives
/// the death of any process, and after the machine's own death no pod is left to hold an address.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

/// Why the records could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What was found on disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Reservations and how far each was.
    pub reservations: Vec<(Stage, Reservation)>,
    /// Addresses and when they were freed.
    pub freed: Vec<(IpAddr, Millis)>,
    /// Files that hold no record; left where they are, for people to look at.
    pub unreadable: Vec<PathBuf>,
}

const FREED: &str = "freed.json";

/// The extension of a file that is being written.
const PART: &str = "part";

impl Stage {
    const ALL: [Stage; 3] = [Stage::Wiring, Stage::Wired, Stage::Leaving];

    const fn extension(self) -> &'static str {
        match self {
            Stage::Wiring => "wiring",
            Stage::Wired => "wired",
            Stage::Leaving => "leaving",
        }
    }
}

impl Store {
    /// Opens a directory of records, making it when it is missing.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(failed("make directory", directory))?;
        Ok(Self { directory: directory.to_path_buf() })
    }

    /// Reads everything.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let entries = fs::read_dir(&self.directory).map_err(failed("list", &self.directory))?;
        for entry in entries {
            let path = entry.map_err(failed("list", &self.directory))?.path();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            let stage = Stage::ALL.into_iter().find(|stage| stage.extension() == extension);
            if extension == PART {
                // Its writer was killed before the rename, so nothing was promised on it.
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
            if path.file_name().is_some_and(|name| name == FREED) {
                match read(&path)? {
                    Some(freed) => loaded.freed = freed,
                    None => loaded.unreadable.push(path),
                }
            } else if let Some(stage) = stage {
                match read(&path)? {
                    Some(reservation) => loaded.reservations.push((stage, reservation)),
                    None => loaded.unreadable.push(path),
                }
            }
        }
        loaded.reservations.sort_by_key(|(_, reservation)| reservation.since);
        Ok(loaded)
    }

    /// Records a new reservation, in [`Stage::Wiring`].
    pub fn create(&self, reservation: &Reservation) -> Result<(), StoreError> {
        self.write(&self.path(&reservation.container, Stage::Wiring), reservation)
    }

    /// Moves a reservation to another stage; it need not be in `from` any more.
    pub fn advance(&self, container: &str, from: Stage, to: Stage) -> Result<(), StoreError> {
        let path = self.path(container, from);
        match fs::rename(&path, self.path(container, to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("rename", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Forgets a reservation, whatever its stage.
    pub fn remove(&self, container: &str) -> Result<(), StoreError> {
        for stage in Stage::ALL {
            let path = self.path(container, stage);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Records which addresses were freed when.
    pub fn write_freed(&self, freed: &[(IpAddr, Millis)]) -> Result<(), StoreError> {
        self.write(&self.directory.join(FREED), &freed)
    }

    fn path(&self, container: &str, stage: Stage) -> PathBuf {
        self.directory.join(format!("{container}.{}", stage.extension()))
    }

    fn write(&self, path: &Path, value: &impl serde::Serialize) -> Result<(), StoreError> {
        let json = serde_json::to_vec(value).map_err(|e| failed("encode", path)(e.into()))?;
        let part = path.with_extension(PART);
        fs::write(&part, json).map_err(failed("write", &part))?;
        fs::rename(&part, path).map_err(failed("rename", &part))
    }
}

/// `None` when the file holds something else.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = fs::read(path).map_err(failed("read", path))?;
    Ok(serde_json::from_slice(&bytes).ok())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservation(container: &str, since: Millis) -> Reservation {
        Reservation {
            container: container.into(),
            addresses: vec!["10.244.1.7".parse().unwrap(), "fd00:244:1::7".parse().unwrap()],
            uid: "u-1".into(),
            pod: "shop/web".into(),
            network: "kilter".into(),
            ifname: "eth0".into(),
            netns: "/run/netns/web".into(),
            link: "klt0".into(),
            since,
        }
    }

    #[test]
    fn records_survive_with_their_stage_oldest_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("ipam")).unwrap();
        for (container, since) in [("late", 9), ("early", 1), ("gone", 5)] {
            store.create(&reservation(container, since)).unwrap();
        }
        store.advance("late", Stage::Wiring, Stage::Wired).unwrap();
        store.advance("late", Stage::Wired, Stage::Leaving).unwrap();
        store.advance("nobody", Stage::Wiring, Stage::Wired).unwrap();
        store.remove("gone").unwrap();
        store.remove("gone").unwrap();
        let freed = vec![("10.244.1.9".parse().unwrap(), 77)];
        store.write_freed(&freed).unwrap();
        let expected =
            vec![(Stage::Wiring, reservation("early", 1)), (Stage::Leaving, reservation("late", 9))];
        assert_eq!(store.load().unwrap(), Loaded { reservations: expected, freed, unreadable: vec![] });
    }

    #[test]
    fn a_broken_file_is_reported_and_half_written_ones_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        fs::write(directory.path().join("bad.wired"), "{").unwrap();
        fs::write(directory.path().join("half.part"), "{").unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.unreadable, [directory.path().join("bad.wired")]);
        assert!(loaded.reservations.is_empty());
        assert!(!directory.path().join("half.part").exists());
    }
}
