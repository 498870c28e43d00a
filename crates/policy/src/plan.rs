use std::net::IpAddr;

use ipnet::IpNet;

use crate::{ClassId, Decision, Interval, PostureId, SetId};

/// One row written or deleted. Each is atomic where rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Creates a set, or changes its default; its exceptions are rows of their own.
    PutSet {
        /// Which.
        set: SetId,
        /// For classes without an exception.
        default: Decision,
    },
    /// What a set holds for one class.
    PutException {
        /// Which set. It exists already.
        set: SetId,
        /// For which class.
        class: ClassId,
        /// What holds.
        decision: Decision,
    },
    /// Which set judges these ports.
    PutInterval {
        /// Posture, direction, protocol, ports.
        interval: Interval,
        /// The set. It exists already.
        set: SetId,
    },
    /// The class of addresses.
    PutClass {
        /// The block; longer prefixes win over it.
        prefix: IpNet,
        /// Its class.
        class: ClassId,
    },
    /// The posture of a pod of this node.
    PutPosture {
        /// The pod's address.
        address: IpAddr,
        /// Its posture. All its intervals exist already.
        posture: PostureId,
    },
    /// No address has this class any more.
    DeleteException {
        /// Which set.
        set: SetId,
        /// Which class.
        class: ClassId,
    },
    /// The set and all its exceptions go; no interval names it any more.
    DeleteSet {
        /// Which.
        set: SetId,
    },
    /// The interval goes; no pod has its posture any more.
    DeleteInterval {
        /// Which.
        interval: Interval,
    },
    /// The block goes; a shorter prefix answers for its addresses.
    DeleteClass {
        /// Which.
        prefix: IpNet,
    },
    /// No pod of this node has this address any more.
    DeletePosture {
        /// Which.
        address: IpAddr,
    },
}

/// The row writes of one update, in order. After every single write each connection's side is
/// decided as before the update or as after it, never in a third way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rows that nothing refers to yet: sets, exceptions, intervals.
    pub prepare: Vec<Write>,
    /// Addresses move: class and posture rows.
    pub switch: Vec<Write>,
    /// Rows that nothing refers to any more.
    pub retire: Vec<Write>,
}

impl Plan {
    /// All writes in order.
    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.prepare.iter().chain(&self.switch).chain(&self.retire)
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes().next().is_none()
    }
}
