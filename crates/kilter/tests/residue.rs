//! Whatever is killed, whenever: `down` leaves nothing.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use kilter_testkit::Residue;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Twin, describe, example};

/// Processes of a twin, by cgroup, with their names.
fn processes(twin: &Twin, group: &str) -> Vec<(Pid, String)> {
    let group = kilter_testkit::cgroup2_root().join("kilter").join(&twin.name).join(group);
    let pids = std::fs::read_to_string(group.join("cgroup.procs")).expect("the group is there");
    pids.lines()
        .map(|pid| {
            let name = std::fs::read_to_string(Path::new("/proc").join(pid).join("comm")).unwrap_or_default();
            (Pid::from_raw(pid.parse().unwrap()), name.trim().to_owned())
        })
        .collect()
}

fn assert_nothing_left(twin: &Twin) {
    let output = twin.kilter(&["down"]);
    assert!(output.status.success(), "{}", describe(&output));
    let left = Residue::of_twin(&twin.name);
    assert!(left.is_empty(), "down leaves nothing: {left:?}");
    let config = std::fs::read_to_string(twin.kubeconfig()).unwrap_or_default();
    assert!(!config.contains(&twin.name), "the context is gone: {config}");
}

#[test]
fn after_kill_nine_of_each_process_down_leaves_nothing() {
    let twin = Twin::named("kill");
    for (group, name) in [("control", "kilter"), ("node-1", "kilter"), ("node-2", "kilter-pause")] {
        twin.up(&[&example("shop")]);
        let (pid, _) = processes(&twin, group)
            .into_iter()
            .find(|(_, comm)| comm == name)
            .unwrap_or_else(|| panic!("{group} has a process {name}: {:?}", processes(&twin, group)));
        kill(pid, Signal::SIGKILL).unwrap();
        assert_nothing_left(&twin);
    }
}

#[test]
fn up_killed_at_any_moment_leaves_nothing_after_down() {
    let twin = Twin::named("interrupted");
    let shop = example("shop");
    // From the first file to the last pod; the later moments find the twin complete.
    for millis in [0, 20, 60, 120, 250, 500, 900, 1500] {
        let mut up = twin.command(&["up", "-f", shop.to_str().unwrap()]);
        let mut child = up.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let at = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < at && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(at - Instant::now());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_left(&twin);
    }
}

#[test]
fn an_interrupted_up_cleans_up_by_itself() {
    let twin = Twin::named("sigint");
    let shop = example("shop");
    let child = twin
        .command(&["up", "-f", shop.to_str().unwrap()])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let root = Path::new("/run/kilter").join(&twin.name).join("ns");
    kilter_testkit::wait_until(Duration::from_secs(10), "up has begun", || root.exists());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", describe(&output));
    assert!(Residue::of_twin(&twin.name).is_empty(), "{}", describe(&output));
}
