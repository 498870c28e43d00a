//! What is measured: one client thread and one server thread, and the traffic between them.

mod bulk;
mod socket;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kilter_netns::NetNs;

use crate::place;
use crate::statistics::{Sample, Summary};

pub(crate) use socket::connect_tcp;

/// Nothing that is measured takes this long; whoever waits longer gives up with an error.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Two ends between which traffic is measured. The server is the benchmark's own.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the client's sockets are made.
    pub client_netns: Arc<NetNs>,
    /// The cgroup whose hooks the client's sockets get; `None`: that of this process.
    pub client_cgroup: Option<PathBuf>,
    /// Where the server's socket is made.
    pub server_netns: Arc<NetNs>,
    /// What the server binds.
    pub server_addr: SocketAddr,
    /// What the client connects to: the server itself or a Service in front of it.
    pub connect_to: SocketAddr,
}

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// One byte there and one back, over one TCP connection.
    TcpKeepAlive,
    /// The same over a new TCP connection each time: from `socket` to after `close`.
    TcpNewConnection,
    /// One byte there and one back in datagrams, from one connected socket.
    Udp,
    /// As many bytes as go through one TCP connection.
    Bulk,
    /// The same through eight at once.
    BulkOfEight,
}

impl Work {
    /// The first word of a figure's case.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpKeepAlive => "tcp-keepalive",
            Self::TcpNewConnection => "tcp-new-connection",
            Self::Udp => "udp",
            Self::Bulk => "bulk",
            Self::BulkOfEight => "bulk-of-8",
        }
    }

    /// The unit of its figures.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Bulk | Self::BulkOfEight => "Gbit/s",
            _ => "us",
        }
    }

    /// Measures once. Latencies with both ends on one processor, since with two it is bimodal
    /// (whether the other one sleeps when the packet comes); bulk with one each where there are two.
    pub fn sample(self, target: &Target, effort: &Effort) -> Result<Sample> {
        let _membership = target.client_cgroup.as_deref().map(place::Membership::join).transpose()?;
        let durations = match self {
            Self::TcpKeepAlive => tcp::keep_alive(target, effort.exchanges)?,
            Self::TcpNewConnection => tcp::new_connection(target, effort.connections)?,
            Self::Udp => udp::exchange(target, effort.exchanges)?,
            Self::Bulk | Self::BulkOfEight => {
                let streams = if self == Self::Bulk { 1 } else { 8 };
                let rate = bulk::transfer(target, effort.bulk, streams)?;
                return Ok(Sample { p50: rate, p99: rate });
            }
        };
        Sample::of_nanoseconds(durations, 1_000.0).context("nothing was measured: the effort is zero")
    }

    /// What the runs say together.
    pub fn summary(self, runs: &[Sample]) -> Option<Summary> {
        match self {
            Self::Bulk | Self::BulkOfEight => Summary::of_single_values(runs.iter().map(|run| run.p50), true),
            _ => Summary::of(runs),
        }
    }
}

/// How much one run measures.
#[derive(Debug, Clone)]
pub struct Effort {
    /// Requests over one connection; a tenth more come before and are not counted.
    pub exchanges: usize,
    /// New connections; a tenth more come before and are not counted.
    pub connections: usize,
    /// How long bytes are pushed.
    pub bulk: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self { exchanges: 10_000, connections: 2_000, bulk: Duration::from_millis(300) }
    }
}

/// Of `count` measurements, how many more come before, unmeasured.
fn warm_up(count: usize) -> usize {
    count / 10 + 1
}
