//! Service rows: writing a plan and reading back.

use kilter_services::{Plan, Tables, Write};

use crate::Result;
use crate::loader::Sizes;
use crate::maps::Maps;
use crate::rows;
use crate::skel::{Plain, types};
use crate::table::Table;

/// How many rows the tables hold, counted as they are written: to ask the kernel for all keys before
/// each change would make one Service's change cost what all Services are worth.
#[derive(Debug)]
pub(crate) struct Counts {
    frontends: u32,
    backends: u32,
    chunks: u32,
}

impl Counts {
    /// Of tables that somebody else may have filled.
    pub(crate) fn read(maps: &Maps) -> Result<Self> {
        Ok(Self {
            frontends: maps.frontends.keys()?.len() as u32,
            backends: maps.backends.keys()?.len() as u32,
            chunks: maps.chunks.keys()?.len() as u32,
        })
    }

    /// The sizes that the tables must have for a plan, if they are too small. Rows that a plan replaces
    /// are counted twice: a table may grow a little early.
    pub(crate) fn growth(&self, maps: &Maps, plan: &Plan) -> Option<Sizes> {
        let frontends = plan.writes().filter(|write| matches!(write, Write::PutFrontend { .. })).count();
        let backends = plan.writes().filter(|write| matches!(write, Write::PutBackend { .. })).count();
        let chunks = plan.writes().filter(|write| matches!(write, Write::PutChunk { .. })).count();
        let now = Sizes {
            frontends: maps.frontends.size(),
            backends: maps.backends.size(),
            chunks: maps.chunks.size(),
        };
        let sizes = Sizes {
            frontends: enough(now.frontends, self.frontends, frontends as u32),
            backends: enough(now.backends, self.backends, backends as u32),
            chunks: enough(now.chunks, self.chunks, chunks as u32),
        };
        (sizes != now).then_some(sizes)
    }

    pub(crate) fn apply(&mut self, maps: &Maps, plan: &Plan) -> Result<()> {
        plan.writes().try_for_each(|one| self.write(maps, one))?;
        ask_again(maps, plan)
    }

    fn write(&mut self, maps: &Maps, write: &Write) -> Result<()> {
        match write {
            Write::PutBackend { revision, slot, backend } => {
                let key = types::backend_key { revision: *revision, slot: *slot };
                self.backends += u32::from(put(&maps.backends, &key, &rows::backend_row(backend))?);
            }
            Write::PutFrontend { frontend, row } => {
                let (key, row) = (rows::frontend_key(frontend), rows::frontend_row(row));
                self.frontends += u32::from(put(&maps.frontends, &key, &row)?);
            }
            Write::DeleteFrontend { frontend } => {
                self.frontends -= u32::from(maps.frontends.remove(&rows::frontend_key(frontend))?);
            }
            Write::DeleteBackend { revision, slot } => {
                let key = types::backend_key { revision: *revision, slot: *slot };
                self.backends -= u32::from(maps.backends.remove(&key)?);
            }
            Write::PutChunk { revision, chunk, slots } => {
                let key = types::chunk_key { revision: *revision, chunk: *chunk };
                self.chunks += u32::from(put(&maps.chunks, &key, &types::chunk { slot: *slots })?);
            }
            Write::DeleteChunk { revision, chunk } => {
                let key = types::chunk_key { revision: *revision, chunk: *chunk };
                self.chunks -= u32::from(maps.chunks.remove(&key)?);
            }
            Write::PutSource { revision, range } => maps.sources.put(&rows::source_key(*revision, *range), &1)?,
            Write::DeleteSource { revision, range } => {
                maps.sources.remove(&rows::source_key(*revision, *range))?;
            }
        }
        Ok(())
    }
}

/// What is written anew, as when its probe has changed its mind, gets new connections again although it refused
/// one.
fn ask_again(maps: &Maps, plan: &Plan) -> Result<()> {
    let refusing = maps.refusing.keys()?;
    if refusing.is_empty() {
        return Ok(());
    }
    let is_written = |key: &&types::backend| {
        let backend = rows::backend_of(key);
        plan.writes().any(|write| matches!(write, Write::PutBackend { backend: put, .. } if *put == backend))
    };
    refusing.iter().filter(is_written).try_for_each(|key| maps.refusing.remove(key).map(drop))
}

/// Whether the row is a new one.
fn put<K: Plain, V: Plain>(table: &Table<K, V>, key: &K, value: &V) -> Result<bool> {
    let new = table.insert(key, value)?;
    if !new {
        table.put(key, value)?;
    }
    Ok(new)
}

/// The size that holds `more` rows beside those there are, a quarter of it free.
fn enough(size: u32, rows: u32, more: u32) -> u32 {
    let wanted = rows.saturating_add(more);
    if more == 0 || wanted <= size { size } else { (wanted + wanted / 3).next_power_of_two() }
}

/// Takes the rows of tables that are being replaced over.
pub(crate) fn copy(from: &Maps, to: &Maps) -> Result<()> {
    for (key, row) in from.backends.rows()? {
        to.backends.put(&key, &row)?;
    }
    for (key, row) in from.chunks.rows()? {
        to.chunks.put(&key, &row)?;
    }
    for (key, row) in from.frontends.rows()? {
        to.frontends.put(&key, &row)?;
    }
    Ok(())
}

/// Reads every Service row back.
pub(crate) fn read(maps: &Maps) -> Result<Tables> {
    let mut tables = Tables::default();
    for (key, row) in maps.frontends.rows()? {
        if let Some(frontend) = rows::frontend_of(&key) {
            tables.frontends.insert(frontend, rows::frontend_row_of(&row));
        }
    }
    for (key, row) in maps.backends.rows()? {
        tables.backends.insert((key.revision, key.slot), rows::backend_of(&row));
    }
    for (key, row) in maps.chunks.rows()? {
        tables.chunks.insert((key.revision, key.chunk), row.slot);
    }
    tables.sources.extend(maps.sources.keys()?.iter().filter_map(rows::source_of));
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use kilter_services::{Backend, Flags, Frontend, FrontendRow};
    use kilter_model::Protocol;

    use super::*;
    use crate::common::{Fabric, Node};

    #[test]
    fn rows_are_counted_as_the_kernel_has_them() {
        let fabric = Fabric::new();
        let mut node = Node::new(&fabric, 1);
        let datapath = node.datapath();
        let frontend = Frontend::inside("10.96.0.10".parse().unwrap(), 80, Protocol::Tcp);
        let backend = Backend { address: "10.244.1.5".parse().unwrap(), port: 8080 };
        let put = |revision, slot| Write::PutBackend { revision, slot, backend };
        let lead = |revision| Write::PutFrontend {
            frontend,
            row: FrontendRow { revision, count: 2, flags: Flags::default(), affinity: 0, places: 0 },
        };
        let retire = |revision, slot| Write::DeleteBackend { revision, slot };
        let plans = [
            vec![put(1, 0), put(1, 1), lead(1)],
            // Written again, as after an error half-way.
            vec![put(1, 0), put(1, 1), lead(1)],
            vec![put(2, 0), put(2, 1), lead(2), retire(1, 0), retire(1, 1)],
            vec![retire(1, 0), Write::DeleteFrontend { frontend }, Write::DeleteFrontend { frontend }],
        ];
        for (writes, rows) in plans.into_iter().zip([(1, 2), (1, 2), (1, 2), (0, 2)]) {
            datapath.apply_services(&Plan { switch: writes, ..Plan::default() }).unwrap();
            assert_eq!((datapath.service_rows.frontends, datapath.service_rows.backends), rows);
            let there = Counts::read(&datapath.maps).unwrap();
            assert_eq!((there.frontends, there.backends), rows);
        }
    }
}
