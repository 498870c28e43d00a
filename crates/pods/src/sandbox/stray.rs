use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal};

/// Ends the pause processes of this state directory that nothing knows of: a node that was killed
/// between starting one and writing its record leaves one behind. Returns how many there were.
pub fn kill_strays(state_dir: &Path, known: &HashSet<i32>) -> io::Result<usize> {
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if known.contains(&pid) || !is_pause_of(pid, state_dir) {
            continue;
        }
        let Some(raw) = Pid::from_raw(pid) else { continue };
        let Ok(handle) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else { continue };
        // Looked at again now that the handle keeps the PID from being reused.
        if is_pause_of(pid, state_dir) && rustix::process::pidfd_send_signal(&handle, Signal::KILL).is_ok() {
            killed += 1;
        }
    }
    Ok(killed)
}

fn is_pause_of(pid: i32, state_dir: &Path) -> bool {
    // A process that ended meanwhile, or a zombie, has no command line.
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut arguments = line.split(|byte| *byte == 0);
    let program = arguments.next().unwrap_or_default();
    Path::new(OsStr::from_bytes(program)).file_name() == Some(OsStr::new("kilter-pause"))
        && arguments.next() == Some(state_dir.as_os_str().as_bytes())
}
