//! Deletes links in the background, many at once.
//!
//! Deleting one veth pair holds the kernel's link lock for about 16 ms, two hundred in one message for
//! 80. And where the runtime closes the pod's namespace after DEL, the link goes with it. So the reaper
//! waits a moment, looks what is still there, and deletes that together, on a thread of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use kilter_netlink::{Error, Netlink};
use tokio::sync::mpsc;

use crate::command::{Command, Leaving, chain};

/// How long links are gathered. Not on anybody's way: the pods are cut off already.
const GATHER: Duration = Duration::from_millis(200);

/// After a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The group that links are put in to be deleted together.
const GROUP: u32 = 0x6b6c_7401;

/// Works until nobody can hand it anything any more.
pub async fn run(
    netlink: Netlink,
    mut links: mpsc::UnboundedReceiver<Leaving>,
    engine: mpsc::Sender<Command>,
) {
    let mut doomed = Vec::new();
    while links.recv_many(&mut doomed, usize::MAX).await > 0 {
        tokio::time::sleep(GATHER).await;
        while let Ok(more) = links.try_recv() {
            doomed.push(more);
        }
        while let Err(error) = delete(&netlink, &doomed).await {
            tracing::error!(error = %chain(&error), "links of deleted pods cannot be removed; tried again");
            tokio::time::sleep(RETRY).await;
        }
        let containers =
            doomed.drain(..).map(|leaving| leaving.container).filter(|id| !id.is_empty()).collect();
        if engine.send(Command::Release(containers)).await.is_err() {
            return;
        }
    }
}

async fn delete(netlink: &Netlink, doomed: &[Leaving]) -> Result<(), Error> {
    let names: BTreeSet<&str> = doomed.iter().map(|leaving| leaving.link.as_str()).collect();
    let links = netlink.links().await?;
    let present: Vec<u32> =
        links.iter().filter(|l| names.contains(l.name.as_str())).map(|l| l.index).collect();
    for link in &present {
        or_missing(netlink.set_group(*link, GROUP).await)?;
    }
    match present.as_slice() {
        [] => Ok(()),
        _ => or_missing(netlink.delete_group(GROUP).await),
    }
}

/// What is gone by itself is as good as deleted.
fn or_missing(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}
