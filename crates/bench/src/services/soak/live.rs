//! Connections that live all the time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kilter_netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Load, Options, inside};
use crate::services::manifests::fixed;
use crate::work::PATIENCE;

/// Each connection asks something so often.
const EVERY: Duration = Duration::from_secs(5);
/// Connections are opened so fast at the start.
const OPENED: Duration = Duration::from_micros(500);

/// Until the load is over.
pub(super) fn run(netns: &NetNs, load: &Arc<Load>, options: &Options) {
    let ran = inside(netns).map(|runtime| {
        runtime.block_on(async {
            let mut all = JoinSet::new();
            let mut ticks = tokio::time::interval(OPENED);
            for number in 0..options.connections {
                ticks.tick().await;
                if load.over.load(Ordering::SeqCst) {
                    break;
                }
                all.spawn(one(load.clone(), number % options.services));
            }
            all.join_all().await;
        });
    });
    if let Err(error) = ran {
        load.lost.add(&format!("{error:#}"));
    }
}

async fn one(load: Arc<Load>, service: usize) {
    if let Err(error) = converse(&load, service).await {
        load.lost.add(&format!("{error:#}"));
    }
}

async fn converse(load: &Load, service: usize) -> Result<()> {
    let to = fixed(service);
    let mut stream = tokio::time::timeout(PATIENCE, TcpStream::connect(to))
        .await
        .context("no answer in time")
        .and_then(|connected| Ok(connected?))
        .with_context(|| format!("open a connection to {to} that is to live"))?;
    stream.set_nodelay(true)?;
    let first = exchange(&mut stream).await?;
    load.living.fetch_add(1, Ordering::Relaxed);
    while !load.over.load(Ordering::SeqCst) {
        tokio::time::sleep(EVERY).await;
        let who = exchange(&mut stream).await.with_context(|| format!("a connection to {to} that lived"));
        let who = who.inspect_err(|_| {
            load.living.fetch_sub(1, Ordering::Relaxed);
        })?;
        ensure!(who == first, "{to} was answered by {:?} after {:?}", char::from(who), char::from(first));
        load.exchanges.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn exchange(stream: &mut TcpStream) -> Result<u8> {
    stream.write_all(&[1]).await?;
    Ok(tokio::time::timeout(PATIENCE, stream.read_u8()).await.context("no answer in time")??)
}
