use std::collections::BTreeMap;

use crate::DropReason;

/// Counters since the data plane's maps were made (they survive restarts of the agent).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Dropped packets, by reason; reasons that never occurred are absent.
    pub drops: BTreeMap<DropReason, u64>,
    /// Flow entries made.
    pub flows_opened: u64,
    /// Drops that no reader heard of, because the ring was full.
    pub events_lost: u64,
    /// Resets sent because policy ended a connection.
    pub resets: u64,
    /// Connections that a Service's backend refused, and that were carried to another.
    pub retried: u64,
    /// Entries in each table, by its name.
    pub tables: BTreeMap<&'static str, u64>,
}

/// What a sweep of the flow table found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Entries that stay.
    pub live: u64,
    /// Entries that had aged and are gone.
    pub removed: u64,
    /// Rows of translated connections: two of each.
    pub translations: u64,
}
