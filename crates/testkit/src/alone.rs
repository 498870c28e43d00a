use std::fs::File;

use nix::fcntl::{Flock, FlockArg};

/// Held by a test that looks at the machine as a whole, or loads it: see [`alone`].
#[derive(Debug)]
pub struct Alone {
    _lock: Flock<File>,
}

/// Waits until no other test holds this, in this process or another: for tests that bring up whole
/// twins or compare snapshots of the machine, of which two at once would disturb each other.
#[track_caller]
pub fn alone() -> Alone {
    // A file that is there anyway: a lock must not leave a file behind.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let open = File::open(file).unwrap_or_else(|error| panic!("open {file}: {error}"));
    let lock = Flock::lock(open, FlockArg::LockExclusive);
    Alone { _lock: lock.unwrap_or_else(|(_, errno)| panic!("lock {file}: {errno}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_second_waits_for_the_first() {
        let first = alone();
        let (entered, second) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _second = alone();
            entered.send(()).unwrap();
        });
        assert!(second.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        second.recv_timeout(Duration::from_secs(60)).unwrap();
        thread.join().unwrap();
    }
}
