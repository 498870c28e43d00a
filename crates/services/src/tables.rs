use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use kilter_model::Protocol;

/// An address at which a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address; the unspecified one of its family stands for each node's own (a node port).
    pub address: IpAddr,
    /// The Service's port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whose connections it is for.
    pub scope: Scope,
}

/// Whose connections a frontend is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Sockets of this node and of its pods.
    #[default]
    Inside,
    /// Packets that arrive at this node from elsewhere.
    Outside,
}

impl Frontend {
    /// For sockets of this node.
    pub fn inside(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self { address, port, protocol, scope: Scope::Inside }
    }

    /// For packets from elsewhere.
    pub fn outside(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self { address, port, protocol, scope: Scope::Outside }
    }

    /// Whether it is a port of nodes.
    pub fn is_node_port(&self) -> bool {
        self.address.is_unspecified()
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_node_port() {
            true if self.address.is_ipv4() => write!(f, "node port {} of IPv4", self.port)?,
            true => write!(f, "node port {} of IPv6", self.port)?,
            false => write!(f, "{}", std::net::SocketAddr::new(self.address, self.port))?,
        }
        write!(f, "/{}", self.protocol)?;
        match self.scope {
            Scope::Inside => Ok(()),
            Scope::Outside => f.write_str(" from outside"),
        }
    }
}

/// Where a frontend's backends are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendRow {
    /// Which rows of [`Tables::backends`]. Never 0, and never used again for other backends.
    pub revision: u32,
    /// How many: slots `0..count`. With 0, connections are refused.
    pub count: u32,
    /// What else is to be known.
    pub flags: Flags,
    /// For how many seconds a client that comes back is sent to the backend that it had; 0: not at all.
    pub affinity: u32,
    /// How many places the table has by which clients are sent to backends ([`Tables::chunks`]); 0: there is none,
    /// and the choice is random.
    pub places: u32,
}

/// Places of a table that are written in one row.
pub const CHUNK: usize = 32;

/// What is special about a frontend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags {
    /// Of a node port: it is one at this node's own addresses only. Which endpoints another node would
    /// choose is its own affair.
    pub own_node: bool,
    /// Without a backend: connections are dropped instead of refused, since another node may have one.
    pub silent: bool,
    /// Only clients in the ranges of its revision are served.
    pub restricted: bool,
    /// Whether a connection that a backend refuses is carried to another; `None`: as the node does by default.
    pub retry: Option<bool>,
    /// Packets from outside are sent on to other nodes' backends as they came (direct server return).
    pub dsr: bool,
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.own_node, "own node only"),
            (self.silent, "silent"),
            (self.restricted, "for some clients only"),
            (self.retry == Some(true), "refused connections are retried"),
            (self.retry == Some(false), "refused connections are not retried"),
            (self.dsr, "sent on as they came"),
        ];
        let set: Vec<&str> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
        f.write_str(&set.join(", "))
    }
}

/// An address that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// The least of all ranges, as they are ordered.
const FIRST: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));

/// All Service rows of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// The frontends.
    pub frontends: BTreeMap<Frontend, FrontendRow>,
    /// The backends, by revision and slot.
    pub backends: BTreeMap<(u32, u32), Backend>,
    /// The slots that tables lead to ([`crate::maglev`]), by revision and place, [`CHUNK`] places each.
    pub chunks: BTreeMap<(u32, u32), [u32; CHUNK]>,
    /// The ranges of clients, by the revision of the frontend that serves them alone.
    pub sources: BTreeSet<(u32, IpNet)>,
}

impl Tables {
    /// Applies one row write.
    pub fn apply(&mut self, write: &Write) {
        match *write {
            Write::PutBackend { revision, slot, backend } => {
                self.backends.insert((revision, slot), backend);
            }
            Write::PutFrontend { frontend, row } => {
                self.frontends.insert(frontend, row);
            }
            Write::DeleteFrontend { frontend } => {
                self.frontends.remove(&frontend);
            }
            Write::DeleteBackend { revision, slot } => {
                self.backends.remove(&(revision, slot));
            }
            Write::PutChunk { revision, chunk, slots } => {
                self.chunks.insert((revision, chunk), slots);
            }
            Write::DeleteChunk { revision, chunk } => {
                self.chunks.remove(&(revision, chunk));
            }
            Write::PutSource { revision, range } => {
                self.sources.insert((revision, range));
            }
            Write::DeleteSource { revision, range } => {
                self.sources.remove(&(revision, range));
            }
        }
    }

    /// The table of a frontend's revision, as far as it is there.
    pub fn table_of(&self, row: &FrontendRow) -> Vec<u32> {
        let chunks = self.chunks.range((row.revision, 0)..=(row.revision, u32::MAX));
        chunks.flat_map(|(_, slots)| slots).copied().take(row.places as usize).collect()
    }

    /// The ranges of the clients of a revision.
    pub fn sources_of(&self, revision: u32) -> BTreeSet<IpNet> {
        let all = self.sources.range((revision, FIRST)..).take_while(|(it, _)| *it == revision);
        all.map(|(_, range)| *range).collect()
    }

    /// The backends of a frontend, in slot order; `None` where there is no such frontend.
    pub fn backends_of(&self, frontend: &Frontend) -> Option<Vec<Backend>> {
        let row = self.frontends.get(frontend)?;
        Some((0..row.count).filter_map(|slot| self.backends.get(&(row.revision, slot)).copied()).collect())
    }
}

/// One row written or deleted. Each is atomic where rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// A backend of a revision that no frontend names yet.
    PutBackend {
        /// Its revision.
        revision: u32,
        /// Its slot.
        slot: u32,
        /// The backend.
        backend: Backend,
    },
    /// A frontend appears, or moves to another revision.
    PutFrontend {
        /// Which.
        frontend: Frontend,
        /// Where its backends are, all of them written already.
        row: FrontendRow,
    },
    /// A frontend goes.
    DeleteFrontend {
        /// Which.
        frontend: Frontend,
    },
    /// A part of the table of a revision that no frontend names yet.
    PutChunk {
        /// The revision.
        revision: u32,
        /// Which part.
        chunk: u32,
        /// The slots that its places lead to.
        slots: [u32; CHUNK],
    },
    /// A part of the table of a revision that no frontend names any more.
    DeleteChunk {
        /// The revision.
        revision: u32,
        /// Which part.
        chunk: u32,
    },
    /// A range of clients of a revision that no frontend names yet.
    PutSource {
        /// The revision.
        revision: u32,
        /// The range.
        range: IpNet,
    },
    /// A range of a revision that no frontend names any more.
    DeleteSource {
        /// The revision.
        revision: u32,
        /// The range.
        range: IpNet,
    },
    /// A backend of a revision that no frontend names any more.
    DeleteBackend {
        /// Its revision.
        revision: u32,
        /// Its slot.
        slot: u32,
    },
}

/// The row writes of one update, in order: new backends, then frontends, then old backends go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// New backends.
    pub prepare: Vec<Write>,
    /// Frontends.
    pub switch: Vec<Write>,
    /// Old backends. A reader that read its frontend before `switch` may still want them: give
    /// such readers the time to finish before this.
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
