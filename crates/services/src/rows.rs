use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::select::Wanted;
use crate::{Backend, CHUNK, Flags, Frontend, FrontendRow, Scope, Tables, Write, maglev, weight};

/// What a frontend's rows say, whatever their revision.
#[derive(PartialEq)]
pub(crate) struct Rows {
    /// How many slots the frontend counts.
    count: usize,
    slots: Vec<Backend>,
    table: Vec<u32>,
    places: usize,
    flags: Flags,
    affinity: u32,
    sources: BTreeSet<IpNet>,
}

impl Rows {
    /// What they are to say. Who connects inside is sent anywhere: one node chooses, and only once.
    pub(crate) fn of(frontend: &Frontend, wanted: &Wanted) -> Self {
        let (slots, table) = match frontend.scope {
            Scope::Inside => (weight::slots(&wanted.backends), Vec::new()),
            Scope::Outside => {
                (wanted.backends.iter().map(|it| it.backend).collect(), maglev::table(&wanted.backends))
            }
        };
        let Wanted { flags, affinity, .. } = *wanted;
        let sources = wanted.sources.clone().unwrap_or_default();
        Self { count: slots.len(), slots, places: table.len(), table, flags, affinity, sources }
    }

    /// What they say.
    pub(crate) fn found(tables: &Tables, frontend: &Frontend, row: &FrontendRow) -> Self {
        Self {
            count: row.count as usize,
            slots: tables.backends_of(frontend).unwrap_or_default(),
            places: row.places as usize,
            table: tables.table_of(row),
            flags: row.flags,
            affinity: row.affinity,
            sources: tables.sources_of(row.revision),
        }
    }

    /// Writes all but the frontend's own row, which is the answer.
    pub(crate) fn write(&self, revision: u32, prepare: &mut Vec<Write>) -> FrontendRow {
        let slots = (0..).zip(&self.slots);
        prepare.extend(slots.map(|(slot, backend)| Write::PutBackend { revision, slot, backend: *backend }));
        prepare.extend(self.sources.iter().map(|range| Write::PutSource { revision, range: *range }));
        for (chunk, part) in (0..).zip(self.table.chunks(CHUNK)) {
            let mut slots = [0; CHUNK];
            slots[..part.len()].copy_from_slice(part);
            prepare.push(Write::PutChunk { revision, chunk, slots });
        }
        let (count, places) = (self.slots.len() as u32, self.table.len() as u32);
        FrontendRow { revision, count, flags: self.flags, affinity: self.affinity, places }
    }
}
