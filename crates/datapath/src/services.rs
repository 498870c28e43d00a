//! Service rows: writing a plan and reading back.

use kilter_services::{FrontendRow, Plan, Tables, Write};

use crate::Result;
use crate::maps::Maps;
use crate::rows;
use crate::skel::types;

pub(crate) fn apply(maps: &Maps, plan: &Plan) -> Result<()> {
    plan.writes().try_for_each(|one| write(maps, one))
}

fn write(maps: &Maps, write: &Write) -> Result<()> {
    match write {
        Write::PutBackend { revision, slot, backend } => match rows::backend_row(backend) {
            Some(row) => maps.backends.put(&types::backend_key { revision: *revision, slot: *slot }, &row),
            None => Ok(()),
        },
        Write::PutFrontend { frontend, row } => match rows::frontend_key(frontend) {
            Some(key) => {
                maps.frontends.put(&key, &types::frontend_row { revision: row.revision, count: row.count })
            }
            None => Ok(()),
        },
        Write::DeleteFrontend { frontend } => match rows::frontend_key(frontend) {
            Some(key) => maps.frontends.remove(&key).map(drop),
            None => Ok(()),
        },
        Write::DeleteBackend { revision, slot } => {
            maps.backends.remove(&types::backend_key { revision: *revision, slot: *slot }).map(drop)
        }
    }
}

/// Reads every Service row back.
pub(crate) fn read(maps: &Maps) -> Result<Tables> {
    let mut tables = Tables::default();
    for (key, row) in maps.frontends.rows()? {
        if let Some(frontend) = rows::frontend_of(&key) {
            tables.frontends.insert(frontend, FrontendRow { revision: row.revision, count: row.count });
        }
    }
    for (key, row) in maps.backends.rows()? {
        tables.backends.insert((key.revision, key.slot), rows::backend_of(&row));
    }
    Ok(tables)
}
