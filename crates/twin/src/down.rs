//! Removes every trace of a twin, whatever state it is in.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cgroup::CgroupTree;
use crate::lock::Lock;
use crate::paths::{KEPT, Layout};
use crate::spec::{TwinSpec, check_name};
use crate::{kubeconfig, mounts};


/// Takes a twin down. Returns `false` when there was nothing of that name.
///
/// Every step is tried even if one before it failed, and the failures are told together: what can
/// be removed is removed.
pub fn down(name: &str) -> Result<bool> {
    check_name(name)?;
    let layout = Layout::new(name);
    let cgroups = CgroupTree::of(name)?;
    if !layout.root().exists() && !cgroups.group("").exists() {
        return Ok(false);
    }
    let lock = Lock::take(&layout)?;
    let spec = read_spec(&layout);
    let mut failures = Vec::new();
    let mut attempt = |step: Result<()>| {
        if let Err(error) = step {
            failures.push(format!("{error:#}"));
        }
    };
    attempt(end(&layout, &cgroups));
    if let Some(spec) = spec
        && let Some(path) = &spec.kubeconfig
    {
        attempt(kubeconfig::remove_context(path, &spec.context()));
    }
    attempt(remove_directory(layout.root()));
    lock.remove();
    if !failures.is_empty() {
        bail!("twin {name} could not be removed completely:\n  {}", failures.join("\n  "));
    }
    Ok(true)
}

/// Ends every process and mount of a twin.
fn end(layout: &Layout, cgroups: &CgroupTree) -> Result<()> {
    let killed = cgroups.kill();
    let unmounted = mounts::unmount_below(layout.root());
    killed.and(unmounted).and(cgroups.remove())
}

/// Removes what a twin whose processes have died has left, but for what its next run goes on with.
pub(crate) fn clear(layout: &Layout) -> Result<()> {
    end(layout, &CgroupTree::of(layout.name())?)?;
    for entry in fs::read_dir(layout.root())? {
        let entry = entry?;
        if KEPT.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// What the twin was asked to be; `None` after a crash before that was written.
pub fn read_spec(layout: &Layout) -> Option<TwinSpec> {
    serde_json::from_slice(&fs::read(layout.spec()).ok()?).ok()
}

fn remove_directory(root: &Path) -> Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(format!("remove {}", root.display()))
        }
        _ => Ok(()),
    }
}
