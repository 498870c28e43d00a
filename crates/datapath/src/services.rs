//! Service rows: writing a plan and reading back.

use kilter_services::{Plan, Tables, Write};

use crate::Result;
use crate::loader::Sizes;
use crate::maps::Maps;
use crate::rows;
use crate::skel::types;

pub(crate) fn apply(maps: &Maps, plan: &Plan) -> Result<()> {
    plan.writes().try_for_each(|one| write(maps, one))
}

fn write(maps: &Maps, write: &Write) -> Result<()> {
    match write {
        Write::PutBackend { revision, slot, backend } => {
            let key = types::backend_key { revision: *revision, slot: *slot };
            maps.backends.put(&key, &rows::backend_row(backend))
        }
        Write::PutFrontend { frontend, row } => {
            maps.frontends.put(&rows::frontend_key(frontend), &rows::frontend_row(row))
        }
        Write::DeleteFrontend { frontend } => maps.frontends.remove(&rows::frontend_key(frontend)).map(drop),
        Write::DeleteBackend { revision, slot } => {
            maps.backends.remove(&types::backend_key { revision: *revision, slot: *slot }).map(drop)
        }
    }
}

/// The sizes that the tables must have for a plan, if they are too small. Rows that a plan replaces
/// are counted twice: a table may grow a little early.
pub(crate) fn growth(maps: &Maps, plan: &Plan) -> Result<Option<Sizes>> {
    let frontends = plan.writes().filter(|write| matches!(write, Write::PutFrontend { .. })).count() as u32;
    let backends = plan.writes().filter(|write| matches!(write, Write::PutBackend { .. })).count() as u32;
    let sizes = Sizes {
        frontends: enough(maps.frontends.size(), frontends, || maps.frontends.keys().map(|k| k.len()))?,
        backends: enough(maps.backends.size(), backends, || maps.backends.keys().map(|k| k.len()))?,
    };
    let now = Sizes { frontends: maps.frontends.size(), backends: maps.backends.size() };
    Ok((sizes != now).then_some(sizes))
}

/// The size that holds `more` rows beside those there are, a quarter of it free.
fn enough(size: u32, more: u32, rows: impl Fn() -> Result<usize>) -> Result<u32> {
    if more == 0 {
        return Ok(size);
    }
    let wanted = (rows()? as u32).saturating_add(more);
    Ok(if wanted <= size { size } else { (wanted + wanted / 3).next_power_of_two() })
}

/// Takes the rows of tables that are being replaced over.
pub(crate) fn copy(from: &Maps, to: &Maps) -> Result<()> {
    for (key, row) in from.backends.rows()? {
        to.backends.put(&key, &row)?;
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
    Ok(tables)
}
