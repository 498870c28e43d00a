use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bpf::{self, Kind};
use crate::mounts::{cgroup2_root, mountinfo};
use crate::wait::find_within;

/// The kernel frees BPF objects and namespaces after grace periods, so equality is waited for.
const SETTLE: Duration = Duration::from_secs(10);

/// Everything on this machine that a twin or a test could leave behind, one line each.
///
/// Take one before, and [`assert_clean`](Self::assert_clean) after. A whole snapshot is for runs
/// that have the machine to themselves; beside others, look at one twin by [`of_twin`](Self::of_twin).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residue {
    lines: BTreeSet<String>,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Machine,
    Twin(String),
}

impl Residue {
    /// Namespaces, files under `/run/kilter`, links of this namespace, the nftables rule set,
    /// cgroups, mounts, BPF objects, and Kilter's processes. Needs root and `nft`.
    pub fn snapshot() -> Self {
        Self::take(Scope::Machine)
    }

    /// Only what belongs to the twin `name`: its folder under `/run/kilter`, mounts below it, its
    /// cgroups and the processes in them.
    pub fn of_twin(name: &str) -> Self {
        Self::take(Scope::Twin(name.into()))
    }

    fn take(scope: Scope) -> Self {
        let mut lines = BTreeSet::new();
        match &scope {
            Scope::Machine => {
                lines.extend(
                    tree(Path::new("/run/netns")).map(|path| format!("namespace {}", path.display())),
                );
                lines.extend(tree(Path::new("/run/kilter")).map(|path| format!("file {}", path.display())));
                lines.extend(mounts(Path::new("/")));
                lines.extend(cgroups(&cgroup2_root().join("kilter")));
                lines.extend(links());
                lines.extend(rule_set());
                lines.extend([Kind::Program, Kind::Map, Kind::Link].into_iter().flat_map(bpf::loaded));
                lines.extend(processes());
            }
            Scope::Twin(name) => {
                let folder = Path::new("/run/kilter").join(name);
                lines.extend(tree(&folder).map(|path| format!("file {}", path.display())));
                lines.extend(mounts(&folder));
                lines.extend(cgroups(&cgroup2_root().join("kilter").join(name)));
            }
        }
        Self { lines, scope }
    }

    /// Whether there is nothing at all (for [`of_twin`](Self::of_twin)).
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What is here and was not in `before` (`+`), and the other way round (`-`); empty when equal.
    pub fn difference(&self, before: &Self) -> String {
        let mut text = String::new();
        for line in self.lines.difference(&before.lines) {
            let _ = writeln!(text, "+ {line}");
        }
        for line in before.lines.difference(&self.lines) {
            let _ = writeln!(text, "- {line}");
        }
        text
    }

    /// Waits until the machine is as in this snapshot; panics with the differences otherwise.
    #[track_caller]
    pub fn assert_clean(&self) {
        let mut last = String::new();
        let settled = find_within(SETTLE, || {
            last = Self::take(self.scope.clone()).difference(self);
            last.is_empty().then_some(())
        });
        assert!(settled.is_some(), "not as before ({SETTLE:?} waited):\n{last}");
    }
}

/// `root`, where it exists, and every path below it; namespaces and pins are leaves.
fn tree(root: &Path) -> impl Iterator<Item = PathBuf> {
    let mut found = Vec::from_iter(root.exists().then(|| root.to_path_buf()));
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.into_iter()
}

/// Namespaces and bpffs that are mounted below `root`.
fn mounts(root: &Path) -> Vec<String> {
    let ours = mountinfo().into_iter().filter(|mount| matches!(mount.kind.as_str(), "nsfs" | "bpf"));
    ours.filter(|mount| mount.point.starts_with(root))
        .map(|mount| format!("mount {} {}", mount.kind, mount.point.display()))
        .collect()
}

/// The group, those below, and how the processes in each are called.
fn cgroups(root: &Path) -> Vec<String> {
    tree(root)
        .filter(|path| path.is_dir())
        .map(|path| {
            let members = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            format!(
                "cgroup {} with processes [{}]",
                path.display(),
                members.split_whitespace().collect::<Vec<_>>().join(" ")
            )
        })
        .collect()
}

fn links() -> Vec<String> {
    let list = nix::net::if_::if_nameindex().expect("list the links of this namespace");
    list.iter().map(|link| format!("link {}", link.name().to_string_lossy())).collect()
}

/// Line by line, so that a difference names the rule; without counters, which move by themselves.
fn rule_set() -> Vec<String> {
    let output = std::process::Command::new("nft").args(["-s", "list", "ruleset"]).output();
    let output = output.expect("run nft (package nftables, see `make setup`)");
    assert!(output.status.success(), "nft list ruleset: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut table = String::new();
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with("table ") {
            table = line.trim_end_matches(" {").into();
        }
        lines.push(format!("nftables {table}: {}", line.trim()));
    }
    lines
}

/// Processes called `kilter` or `kilter-...`; test programs are called `kilter_...` and not meant.
fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("read /proc").flatten() {
        let Ok(name) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        let name = name.trim_end();
        let numeric = entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        if numeric && (name == "kilter" || name.starts_with("kilter-")) {
            found.push(format!("process {} {name}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A twin that only this test knows, so that others on the machine cannot disturb it.
    fn twin() -> String {
        format!("testkit-{}", std::process::id())
    }

    #[test]
    fn what_a_twin_leaves_is_named_and_its_absence_is_clean() {
        let before = Residue::of_twin(&twin());
        assert!(before.is_empty());
        let folder = Path::new("/run/kilter").join(twin());
        std::fs::create_dir_all(folder.join("ns")).unwrap();
        let group = cgroup2_root().join("kilter").join(twin());
        std::fs::create_dir_all(&group).unwrap();

        let after = Residue::of_twin(&twin()).difference(&before);
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::remove_dir(&group).unwrap();
        // The parents too, unless somebody else's twin is in them.
        let _ = (std::fs::remove_dir(folder.parent().unwrap()), std::fs::remove_dir(group.parent().unwrap()));
        assert!(after.contains(&format!("+ file /run/kilter/{}/ns", twin())), "{after}");
        assert!(after.contains(&format!("+ cgroup {}", group.display())), "{after}");
        before.assert_clean();
    }

    #[test]
    fn a_snapshot_lists_links_and_a_pinned_map_of_the_machine() {
        let bpffs = crate::BpfFs::mount();
        let lines = Residue::snapshot().lines;
        assert!(lines.contains("link lo"), "{lines:?}");
        assert!(lines.contains(&format!("mount bpf {}", bpffs.path().display())), "{lines:?}");
    }
}
