//! Connections that begin and end all the time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kilter_netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::history::{GRACE, Judgement};
use super::{Load, Options, inside};
use crate::services::OTHERS;
use crate::services::manifests::moving;
use crate::work::PATIENCE;

/// Calls begin in groups: a timer does not tick a thousand times a second.
const TICK: Duration = Duration::from_millis(10);

/// Until the load is over.
pub(super) fn run(netns: &NetNs, load: &Arc<Load>, options: &Options) {
    let ran = inside(netns).map(|runtime| {
        runtime.block_on(async {
            let mut ticks = tokio::time::interval(TICK);
            let group = (f64::from(options.rate) * TICK.as_secs_f64()).ceil() as usize;
            let mut all = JoinSet::new();
            let mut number = 0;
            while !load.over.load(Ordering::SeqCst) {
                ticks.tick().await;
                for _ in 0..group {
                    number += 1;
                    all.spawn(one(load.clone(), number % OTHERS));
                }
                while all.try_join_next().is_some() {}
            }
            all.join_all().await;
        });
    });
    if let Err(error) = ran {
        load.failed.add(&format!("{error:#}"));
    }
}

async fn one(load: Arc<Load>, number: usize) {
    let began = Instant::now();
    match tokio::time::timeout(PATIENCE, call(number)).await.context("no answer in time").and_then(|who| who) {
        Ok(who) => {
            load.calls.fetch_add(1, Ordering::Relaxed);
            if let Judgement::Late(late) = load.history.judge(number, who, began)
                && late > GRACE
            {
                let who = char::from(who);
                load.misled.add(&format!("{} was answered by {who:?}, {} ms late", moving(number), late.as_millis()));
            }
        }
        Err(error) => load.failed.add(&format!("call {}: {error:#}", moving(number))),
    }
}

/// Closed at once with a reset: thousands of ports would wait otherwise.
async fn call(number: usize) -> Result<u8> {
    let mut stream = TcpStream::connect(moving(number)).await?;
    stream.set_zero_linger()?;
    stream.write_all(&[1]).await?;
    Ok(stream.read_u8().await?)
}
