use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

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
}

/// What is special about a frontend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags {
    /// Of a node port: it is one at this node's own addresses only. Which endpoints another node would
    /// choose is its own affair.
    pub own_node: bool,
    /// Without a backend: connections are dropped instead of refused, since another node may have one.
    pub silent: bool,
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.own_node, "own node only"), (self.silent, "silent")];
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

/// All Service rows of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// The frontends.
    pub frontends: BTreeMap<Frontend, FrontendRow>,
    /// The backends, by revision and slot.
    pub backends: BTreeMap<(u32, u32), Backend>,
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
        }
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
