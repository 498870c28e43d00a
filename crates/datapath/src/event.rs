use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, SystemTime};

use kilter_model::Direction;
use kilter_policy::RuleId;

use crate::Result;

/// Something that the data plane reports, as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A packet was refused.
    Drop {
        /// When, by the wall clock.
        at: SystemTime,
        /// Whose side refused it: the sender's (egress) or the receiver's (ingress).
        direction: Direction,
        /// The packet's source; port 0 where the protocol has none.
        from: SocketAddr,
        /// The packet's destination.
        to: SocketAddr,
        /// The IP protocol number.
        protocol: u8,
        /// Why.
        reason: DropReason,
        /// The rule, where policy decided.
        rule: Option<RuleId>,
        /// The interface on whose hook it happened.
        ifindex: u32,
    },
    /// A flow was opened and allowed. Only while [`crate::Datapath::report_flows`] is on.
    Open {
        /// When, by the wall clock.
        at: SystemTime,
        /// Whose side judged last.
        direction: Direction,
        /// Who opened it.
        from: SocketAddr,
        /// Towards whom.
        to: SocketAddr,
        /// The IP protocol number.
        protocol: u8,
        /// The rule that allows it, where policy judged.
        rule: Option<RuleId>,
        /// The interface on whose hook it happened.
        ifindex: u32,
    },
}

/// Why a packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Policy denies it; the event names the rule.
    Policy,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::Policy => "policy",
        })
    }
}

/// The reader of a node's events. There is one ring, so two readers share it between them.
#[derive(Debug)]
pub struct EventSource {
    fd: std::os::fd::OwnedFd,
}

impl EventSource {
    /// Everything that has been reported since the last call; does not wait.
    pub fn drain(&mut self) -> Result<Vec<Event>> {
        Ok(Vec::new())
    }

    /// Like [`EventSource::drain`], but waits for at least one event, or until `timeout`.
    pub fn wait(&mut self, _timeout: Duration) -> Result<Vec<Event>> {
        self.drain()
    }
}

impl AsFd for EventSource {
    /// Readable when there are events, for epoll (tokio's `AsyncFd`).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for EventSource {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
