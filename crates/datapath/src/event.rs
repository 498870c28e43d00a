use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kilter_model::Direction;
use kilter_policy::RuleId;
use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use nix::time::{ClockId, clock_gettime};

use crate::loader::address;
use crate::skel::{Plain, types};
use crate::{DropReason, Error, Result};

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
    /// A connection to a Service was refused by its backend, and carried to another.
    Retried {
        /// When, by the wall clock.
        at: SystemTime,
        /// Whose connection.
        from: SocketAddr,
        /// Who refused it.
        to: SocketAddr,
        /// Who is asked instead.
        next: SocketAddr,
        /// The interface on whose hook the refusal arrived.
        ifindex: u32,
    },
}

/// Events as they were taken from the ring, until somebody asks for them.
type Queue = Arc<Mutex<VecDeque<types::retried>>>;

/// The reader of a node's events. There is one ring, so two readers share it between them.
pub struct EventSource {
    ring: RingBuffer<'static>,
    queue: Queue,
}

impl EventSource {
    /// `pin`: where the ring is pinned.
    pub(crate) fn new(pin: &Path) -> Result<Self> {
        let queue = Queue::default();
        let filled = queue.clone();
        let failed = |error: libbpf_rs::Error| Error::Events(io::Error::other(error));
        let map = MapHandle::from_pinned_path(pin).map_err(failed)?;
        let mut builder = RingBufferBuilder::new();
        let take = move |bytes: &[u8]| {
            let mut queue = filled.lock().unwrap_or_else(PoisonError::into_inner);
            queue.extend(record(bytes));
            0
        };
        builder.add(&map, take).map_err(failed)?;
        let ring = builder.build().map_err(failed)?;
        Ok(Self { ring, queue })
    }

    /// Everything that has been reported since the last call; does not wait.
    pub fn drain(&mut self) -> Result<Vec<Event>> {
        self.ring.consume().map_err(|e| Error::Events(io::Error::other(e)))?;
        let skew = wall_clock_at_zero()?;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(queue.drain(..).filter_map(|event| decode(&event, skew)).collect())
    }

    /// Like [`EventSource::drain`], but waits for at least one event, or until `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Vec<Event>> {
        match self.ring.poll(timeout) {
            Ok(()) => self.drain(),
            Err(error) if error.kind() == libbpf_rs::ErrorKind::Interrupted => self.drain(),
            Err(error) => Err(Error::Events(io::Error::other(error))),
        }
    }
}

impl AsFd for EventSource {
    /// Readable when there are events, for epoll (tokio's `AsyncFd`).
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns this descriptor and closes it when it is dropped, after `self`'s borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }
}

impl AsRawFd for EventSource {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.epoll_fd()
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource").field("fd", &self.ring.epoll_fd()).finish_non_exhaustive()
    }
}

/// What the wall clock showed when the monotonic clock, which events carry, was at 0.
fn wall_clock_at_zero() -> Result<SystemTime> {
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|e| Error::Events(e.into()))?;
    let since_zero = Duration::from(monotonic);
    Ok(SystemTime::now().checked_sub(since_zero).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// A record of the ring; most are without the last field.
fn record(bytes: &[u8]) -> Option<types::retried> {
    let plain = || types::event::from_bytes(bytes).map(|event| types::retried { event, ..Default::default() });
    types::retried::from_bytes(bytes).or_else(plain)
}

fn decode(types::retried { event, to: next }: &types::retried, zero: SystemTime) -> Option<Event> {
    let socket = |wire, port| SocketAddr::new(address(wire), u16::from_be(port));
    let at = zero + Duration::from_nanos(event.at);
    let direction = if u32::from(event.direction) == types::direction::INGRESS.0 {
        Direction::Ingress
    } else {
        Direction::Egress
    };
    let (from, to) =
        (socket(event.source, event.source_port), socket(event.destination, event.destination_port));
    let (protocol, ifindex) = (event.protocol, event.ifindex);
    let rule = (event.rule != 0).then_some(RuleId(event.rule));
    match types::event_kind(event.kind.into()) {
        types::event_kind::EVENT_DROP => {
            let reason = DropReason::from_number(event.reason.into())?;
            Some(Event::Drop { at, direction, from, to, protocol, reason, rule, ifindex })
        }
        types::event_kind::EVENT_OPEN => {
            Some(Event::Open { at, direction, from, to, protocol, rule, ifindex })
        }
        types::event_kind::EVENT_RETRIED => {
            Some(Event::Retried { at, from, to, next: socket(next.address, next.port), ifindex })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::wire;

    #[test]
    fn a_drop_is_decoded_with_its_rule_and_ports() {
        let raw = types::event {
            at: 1_500_000_000,
            source: wire("10.244.0.5".parse().unwrap()),
            destination: wire("10.244.1.7".parse().unwrap()),
            source_port: 40_000u16.to_be(),
            destination_port: 80u16.to_be(),
            rule: 9,
            ifindex: 3,
            kind: types::event_kind::EVENT_DROP.0 as u8,
            reason: types::drop_reason::DROP_POLICY.0 as u8,
            direction: types::direction::INGRESS.0 as u8,
            protocol: 6,
        };
        let read = |raw: types::event| decode(&record(raw.bytes()).unwrap(), SystemTime::UNIX_EPOCH);
        let event = read(raw).unwrap();
        let expected = Event::Drop {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            direction: Direction::Ingress,
            from: "10.244.0.5:40000".parse().unwrap(),
            to: "10.244.1.7:80".parse().unwrap(),
            protocol: 6,
            reason: DropReason::Policy,
            rule: Some(RuleId(9)),
            ifindex: 3,
        };
        assert_eq!(event, expected);
        assert!(read(types::event { kind: 77, ..raw }).is_none());
        let next = "10.244.1.8:80".parse().unwrap();
        let (kind, event) = (types::event_kind::EVENT_RETRIED.0 as u8, raw);
        let to = crate::rows::backend_row(&kilter_services::Backend { address: [10, 244, 1, 8].into(), port: 80 });
        let raw = types::retried { event: types::event { kind, ..event }, to };
        let Event::Retried { to, next: found, .. } = decode(&record(raw.bytes()).unwrap(), SystemTime::UNIX_EPOCH).unwrap() else {
            panic!("another kind of event");
        };
        assert_eq!((to, found), ("10.244.1.7:80".parse().unwrap(), next));
    }
}
