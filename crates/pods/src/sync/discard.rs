use std::collections::HashSet;
use std::path::Path;

use anyhow::Context;

use super::Shared;
use crate::cgroup::Cgroup;
use crate::cni::{self, Attachment};
use crate::sandbox::{Process, Record, Records, kill_strays};

/// Reads the sandboxes of an earlier life; ends the containers that ran for real in them, and the
/// pause processes without a record.
pub async fn discard_unknown(records: &Records, cgroup: &Path) -> anyhow::Result<Vec<Record>> {
    // Their output went to a process that is no more: containers that run for real start anew.
    Cgroup::pods(cgroup).kill().await;
    let found = records.load().context("read the sandboxes of an earlier run")?;
    let known: HashSet<i32> = found.iter().map(|record| record.pid).collect();
    let killed = kill_strays(records.root(), &known).context("look for stray pause processes")?;
    if killed > 0 {
        tracing::info!(killed, "ended pause processes that an interrupted start had left behind");
    }
    Ok(found)
}

/// Removes a sandbox of an earlier life whose pod is no more.
pub(super) async fn discard(shared: &Shared, record: Record) {
    let process = Process::adopt(record.pid, record.start_time).ok().flatten();
    remove(shared, &record, process.as_ref(), |error| {
        tracing::warn!(pod = %record.name, error = %crate::error_chain(error), "CNI DEL of a pod that is no more; trying again");
    })
    .await;
}

/// Unwires a pod, ends its pause process and forgets it; does not give up. No socket of this
/// process may be left in its namespace.
pub(super) async fn remove(
    shared: &Shared,
    record: &Record,
    process: Option<&Process>,
    failed: impl Fn(&cni::Error),
) {
    if !record.host_network {
        let netns = process.map(|process| process.namespace("net"));
        let mut backoff = kilter_cluster::Backoff::default();
        while let Err(error) =
            shared.cni.del(attachment(record, netns.as_deref()), record.cni_result.as_ref()).await
        {
            failed(&error);
            tokio::time::sleep(backoff.next().unwrap_or_default()).await;
        }
    }
    if let Some(process) = process
        && let Err(error) = process.kill().await
    {
        tracing::warn!(pod = %record.name, %error, "end the pause process");
    }
    if let Err(error) = shared.records.remove(&record.uid) {
        tracing::warn!(pod = %record.name, %error, "remove the pod's files");
    }
}

/// What CNI is told about a sandbox.
pub(super) fn attachment<'a>(record: &'a Record, netns: Option<&'a Path>) -> Attachment<'a> {
    Attachment {
        container_id: &record.sandbox_id,
        netns,
        namespace: &record.namespace,
        name: &record.name,
        uid: &record.uid,
    }
}
