use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::skel::{Plain, types};
use crate::table::Table;
use crate::{Error, Result};

/// A map as the loader hands it over.
#[derive(Debug)]
pub(crate) struct RawMap {
    pub(crate) fd: OwnedFd,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

/// The maps that userspace reads or writes; `bpf/lib/maps.h` has all of them.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) settings: Table<u32, types::settings>,
    pub(crate) classes: Table<types::class_key, types::class_row>,
    pub(crate) postures: Table<types::address, u32>,
    pub(crate) intervals: Table<types::interval_key, types::interval_row>,
    pub(crate) sets: Table<types::set_key, types::decision>,
    pub(crate) generations: Table<u32, u32>,
    pub(crate) endpoints: Table<types::address, types::endpoint>,
    pub(crate) routes: Table<types::class_key, u32>,
    pub(crate) nodes: Table<u32, types::node>,
    pub(crate) announced: Table<types::class_key, types::announced>,
    pub(crate) flows: Table<types::flow_key, types::flow>,
    pub(crate) frontends: Table<types::frontend, types::frontend_row>,
    pub(crate) backends: Table<types::backend_key, types::backend>,
    pub(crate) chunks: Table<types::chunk_key, types::chunk>,
    pub(crate) nat: Table<types::tuple, types::nat>,
    pub(crate) refusing: Table<types::backend, u64>,
    pub(crate) sources: Table<types::source_key, u32>,
    pub(crate) namespaces: Table<u64, types::namespace>,
    pub(crate) drops: Table<u32, u64>,
    pub(crate) counters: Table<u32, u64>,
    /// How many routes there can be.
    pub(crate) max_nodes: u32,
}

impl Maps {
    pub(crate) fn new(mut raw: BTreeMap<String, RawMap>) -> Result<Self> {
        let maps = &mut raw;
        Ok(Self {
            max_nodes: maps.get("nodes").map_or(0, |map| map.max_entries),
            settings: take(maps, "settings")?,
            classes: take(maps, "classes")?,
            postures: take(maps, "postures")?,
            intervals: take(maps, "intervals")?,
            sets: take(maps, "sets")?,
            generations: take(maps, "generations")?,
            endpoints: take(maps, "endpoints")?,
            routes: take(maps, "routes")?,
            nodes: take(maps, "nodes")?,
            announced: take(maps, "announced")?,
            flows: take(maps, "flows")?,
            frontends: take(maps, "frontends")?,
            backends: take(maps, "backends")?,
            chunks: take(maps, "chunks")?,
            nat: take(maps, "nat")?,
            refusing: take(maps, "refusing")?,
            sources: take(maps, "sources")?,
            namespaces: take(maps, "namespaces")?,
            drops: take(maps, "drops")?,
            counters: take(maps, "counters")?,
        })
    }
}

fn take_raw(maps: &mut BTreeMap<String, RawMap>, name: &'static str) -> Result<RawMap> {
    maps.remove(name).ok_or_else(|| Error::Config(format!("BUG: the object has no map {name}")))
}

fn take<K: Plain, V: Plain>(maps: &mut BTreeMap<String, RawMap>, name: &'static str) -> Result<Table<K, V>> {
    let map = take_raw(maps, name)?;
    if map.key_size as usize != size_of::<K>() || map.value_size as usize != size_of::<V>() {
        return Err(Error::Config(format!("BUG: the rows of map {name} have other sizes in the kernel")));
    }
    Ok(Table::new(name, map.max_entries, map.fd))
}
