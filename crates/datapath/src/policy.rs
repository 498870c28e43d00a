//! Policy rows: writing a plan, reading back, and which flows must ask again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use kilter_model::PortRange;
use kilter_policy::{ClassId, Decision, DecisionSet, Interval, Plan, SetId, Tables, Write};

use crate::generations::{NO_ROW, Stale, slot_of, slot_of_host};
use crate::loader::{address, wire};
use crate::maps::Maps;
use crate::rows;
use crate::skel::types;
use crate::{Error, Result};

/// What userspace remembers of the rows: which prefixes have a class, to know whose flows a row that
/// appears or goes concerns, and which exceptions a set has, since it takes them with it.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    classes: HashMap<IpNet, ClassId>,
    exceptions: HashMap<SetId, HashSet<ClassId>>,
}

impl Mirror {
    pub(crate) fn read(maps: &Maps) -> Result<Self> {
        let mut mirror = Self::default();
        for (prefix, class) in class_rows(maps)? {
            mirror.classes.insert(prefix, class);
        }
        for key in maps.sets.keys()? {
            if let (set, Some(class)) = rows::set_of(&key) {
                mirror.exceptions.entry(set).or_default().insert(class);
            }
        }
        Ok(mirror)
    }

    pub(crate) fn classes(&self) -> usize {
        self.classes.len()
    }

    /// The slot that addresses right above `prefix` are judged under: of the longest row around it.
    fn slot_around(&self, prefix: IpNet) -> u32 {
        let around = (0..prefix.prefix_len()).rev().filter_map(|bits| IpNet::new(prefix.addr(), bits).ok());
        around.map(|net| net.trunc()).find(|net| self.classes.contains_key(net)).map_or(NO_ROW, slot_of)
    }

    /// Whether the row that an address matches is the one of `prefix` (which contains it).
    fn decides(&self, prefix: IpNet, host: IpAddr) -> bool {
        let longer = (prefix.prefix_len() + 1..=prefix.max_prefix_len())
            .filter_map(|bits| IpNet::new(host, bits).ok());
        !longer.map(|net| net.trunc()).any(|net| self.classes.contains_key(&net))
    }
}

/// All of IPv4. In the kernel it lies within `::/0`, whose class must not become that of addresses
/// of IPv4; so where nobody gives it a class, its row is there all the same, without one.
const FLOOR: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));

/// See [`FLOOR`]. To be called before the first class is written.
pub(crate) fn lay_floor(maps: &Maps) -> Result<()> {
    maps.classes.insert(&rows::prefix_key(FLOOR), &types::class_row::default()).map(drop)
}

/// The rows that give a class.
fn class_rows(maps: &Maps) -> Result<Vec<(IpNet, ClassId)>> {
    let mut found = Vec::new();
    for (key, row) in maps.classes.rows()? {
        let prefix = rows::prefix_of(&key).ok_or_else(|| unreadable(maps.classes.name()))?;
        found.extend((row.class_id != 0).then_some((prefix, ClassId(row.class_id))));
    }
    Ok(found)
}

/// Writes rows of one plan.
pub(crate) struct Writer<'a> {
    pub(crate) maps: &'a Maps,
    pub(crate) mirror: &'a mut Mirror,
    /// The addresses of this node's pods.
    pub(crate) pods: &'a [IpAddr],
    pub(crate) stale: Stale,
}

impl Writer<'_> {
    /// Rows that nothing refers to, then addresses move and their flows are told, then old rows go.
    pub(crate) fn apply(&mut self, plan: &Plan) -> Result<()> {
        plan.prepare.iter().try_for_each(|write| self.write(write))?;
        let switched = plan.switch.iter().try_for_each(|write| self.write(write));
        // Also when a write failed: those before it are in force.
        self.stale.raise(&self.maps.generations)?;
        switched?;
        plan.retire.iter().try_for_each(|write| self.write(write))?;
        self.stale.raise(&self.maps.generations)
    }

    fn write(&mut self, write: &Write) -> Result<()> {
        match *write {
            Write::PutSet { set, default } => self.put_decision(rows::set_key(set, None), default),
            Write::PutException { set, class, decision } => {
                self.put_decision(rows::set_key(set, Some(class)), decision)?;
                self.mirror.exceptions.entry(set).or_default().insert(class);
                Ok(())
            }
            Write::PutInterval { interval, set } => self.put_interval(&interval, set),
            Write::PutClass { prefix, class } => self.put_class(prefix.trunc(), class),
            Write::PutPosture { address, posture } => {
                self.maps.postures.put(&wire(address), &posture.0)?;
                self.stale.slot(slot_of_host(address));
                Ok(())
            }
            Write::DeleteException { set, class } => {
                self.mirror.exceptions.entry(set).or_default().remove(&class);
                self.maps.sets.remove(&rows::set_key(set, Some(class))).map(drop)
            }
            Write::DeleteSet { set } => self.delete_set(set),
            Write::DeleteInterval { interval } => self.delete_interval(&interval),
            Write::DeleteClass { prefix } => self.delete_class(prefix.trunc()),
            Write::DeletePosture { address } => {
                self.maps.postures.remove(&wire(address))?;
                self.stale.slot(slot_of_host(address));
                Ok(())
            }
        }
    }

    /// Sets are shared, so a verdict that changes in place concerns flows nobody can name. Plans do
    /// that rarely: they make new sets.
    fn put_decision(&mut self, key: types::set_key, decision: Decision) -> Result<()> {
        let row = rows::decision_row(decision);
        if self.maps.sets.insert(&key, &row)? {
            return Ok(());
        }
        let before = self.maps.sets.get(&key)?;
        if before.is_none_or(|before| before.allow != row.allow) {
            self.stale.everything();
        }
        self.maps.sets.put(&key, &row)
    }

    fn put_interval(&mut self, interval: &Interval, set: SetId) -> Result<()> {
        let row = rows::interval_row(interval, set);
        for key in rows::interval_keys(interval) {
            if self.maps.intervals.insert(&key, &row)? {
                continue;
            }
            if self.maps.intervals.get(&key)?.is_none_or(|before| before.set != row.set) {
                self.stale.everything();
            }
            self.maps.intervals.put(&key, &row)?;
        }
        Ok(())
    }

    fn delete_interval(&self, interval: &Interval) -> Result<()> {
        rows::interval_keys(interval).iter().try_for_each(|key| self.maps.intervals.remove(key).map(drop))
    }

    /// With its exceptions: a set of the same number must not find them.
    fn delete_set(&mut self, set: SetId) -> Result<()> {
        self.maps.sets.remove(&rows::set_key(set, None))?;
        for class in self.mirror.exceptions.remove(&set).unwrap_or_default() {
            self.maps.sets.remove(&rows::set_key(set, Some(class)))?;
        }
        Ok(())
    }

    fn put_class(&mut self, prefix: IpNet, class: ClassId) -> Result<()> {
        let row = types::class_row { class_id: class.0, slot: slot_of(prefix) };
        self.maps.classes.put(&rows::prefix_key(prefix), &row)?;
        match self.mirror.classes.insert(prefix, class) {
            Some(before) if before == class => return Ok(()),
            Some(_) => self.stale.slot(slot_of(prefix)),
            // Its addresses were judged under the row around it so far.
            None => self.stale.slot(self.mirror.slot_around(prefix)),
        }
        self.pods_moved(prefix);
        Ok(())
    }

    fn delete_class(&mut self, prefix: IpNet) -> Result<()> {
        let key = rows::prefix_key(prefix);
        if prefix == FLOOR {
            self.maps.classes.put(&key, &types::class_row::default())?;
        } else {
            self.maps.classes.remove(&key)?;
        }
        if self.mirror.classes.remove(&prefix).is_some() {
            self.stale.slot(slot_of(prefix));
            self.pods_moved(prefix);
        }
        Ok(())
    }

    /// Pods of this node have slots of their own; those whose row has changed are raised too.
    fn pods_moved(&mut self, prefix: IpNet) {
        for pod in self.pods.iter().filter(|pod| prefix.contains(*pod)) {
            if self.mirror.decides(prefix, *pod) {
                self.stale.slot(slot_of_host(*pod));
            }
        }
    }
}

/// Reads every policy row back. `rules` stays empty: the kernel has only their numbers.
pub(crate) fn read(maps: &Maps) -> Result<Tables> {
    let mut tables = Tables::default();
    tables.classes.extend(class_rows(maps)?);
    for (key, posture) in maps.postures.rows()? {
        tables.postures.insert(address(key), kilter_policy::PostureId(posture));
    }
    read_sets(maps, &mut tables)?;
    read_intervals(maps, &mut tables)?;
    Ok(tables)
}

fn read_sets(maps: &Maps, tables: &mut Tables) -> Result<()> {
    let mut exceptions: BTreeMap<SetId, BTreeMap<ClassId, Decision>> = BTreeMap::new();
    for (key, row) in maps.sets.rows()? {
        let decision = rows::decision_of(&row);
        match rows::set_of(&key) {
            (set, None) => {
                tables.sets.insert(set, DecisionSet { default: decision, exceptions: BTreeMap::new() });
            }
            (set, Some(class)) => {
                exceptions.entry(set).or_default().insert(class, decision);
            }
        }
    }
    for (set, exceptions) in exceptions {
        // Exceptions without a default belong to no set that can be asked.
        if let Some(whole) = tables.sets.get_mut(&set) {
            whole.exceptions = exceptions;
        }
    }
    Ok(())
}

/// An interval is reported whole only when all its rows are there and agree; otherwise row by row,
/// so that a comparison with what should be there fails.
fn read_intervals(maps: &Maps, tables: &mut Tables) -> Result<()> {
    let mut parts: BTreeMap<Interval, Vec<(PortRange, SetId)>> = BTreeMap::new();
    for (key, row) in maps.intervals.rows()? {
        let (interval, ports, set) =
            rows::interval_of(&key, &row).ok_or_else(|| unreadable(maps.intervals.name()))?;
        parts.entry(interval).or_default().push((ports, set));
    }
    for (interval, found) in parts {
        let set = found[0].1;
        let complete =
            found.len() == rows::interval_keys(&interval).len() && found.iter().all(|(_, s)| *s == set);
        if complete {
            tables.intervals.insert(interval, set);
        } else {
            tables
                .intervals
                .extend(found.into_iter().map(|(ports, set)| (Interval { ports, ..interval }, set)));
        }
    }
    Ok(())
}

fn unreadable(table: &'static str) -> Error {
    Error::Config(format!("a row of table {table} cannot be read: was it written by something else?"))
}
