//! Routes to other nodes' pods. A route's index in `nodes` stays the same while the route exists, so
//! flows follow when its next hop changes.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::loader::{address, wire};
use crate::maps::Maps;
use crate::rows;
use crate::skel::types;
use crate::{Error, NodeRoute, Result};

/// Which index each route has.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    indices: BTreeMap<IpNet, u32>,
    /// Where the search for a free index begins: those just freed come last.
    next: u32,
}

impl Routes {
    pub(crate) fn read(maps: &Maps) -> Result<Self> {
        let rows = maps.routes.rows()?.into_iter();
        let indices: BTreeMap<_, _> =
            rows.filter_map(|(key, index)| Some((rows::prefix_of(&key)?, index))).collect();
        let next = indices.values().max().copied().unwrap_or(0);
        Ok(Self { indices, next })
    }

    pub(crate) fn len(&self) -> usize {
        self.indices.len()
    }

    pub(crate) fn set(&mut self, maps: &Maps, routes: &[NodeRoute]) -> Result<()> {
        for route in routes {
            self.put(maps, *route)?;
        }
        let gone: Vec<_> = self
            .indices
            .keys()
            .filter(|prefix| routes.iter().all(|r| r.prefix.trunc() != **prefix))
            .copied()
            .collect();
        gone.into_iter().try_for_each(|prefix| self.remove(maps, prefix))
    }

    fn put(&mut self, maps: &Maps, route: NodeRoute) -> Result<()> {
        let prefix = route.prefix.trunc();
        let node = types::node { next_hop: wire(route.next_hop) };
        if let Some(index) = self.indices.get(&prefix) {
            return maps.nodes.put(index, &node);
        }
        let index = self.free_index(maps)?;
        maps.nodes.put(&index, &node)?;
        maps.routes.put(&rows::prefix_key(prefix), &index)?;
        self.indices.insert(prefix, index);
        Ok(())
    }

    fn remove(&mut self, maps: &Maps, prefix: IpNet) -> Result<()> {
        let Some(index) = self.indices.remove(&prefix) else { return Ok(()) };
        maps.routes.remove(&rows::prefix_key(prefix))?;
        // Flows that still name it ask the kernel's routes.
        maps.nodes.put(&index, &types::node::default())
    }

    /// Index 0 means "no route".
    fn free_index(&mut self, maps: &Maps) -> Result<u32> {
        let taken: std::collections::BTreeSet<u32> = self.indices.values().copied().collect();
        let size = maps.max_nodes;
        let candidates = (1..size).map(|step| 1 + (self.next + step - 1) % (size - 1));
        let found = candidates.into_iter().find(|index| !taken.contains(index));
        let index = found.ok_or(Error::Full { table: "nodes", size })?;
        self.next = index;
        Ok(index)
    }
}

pub(crate) fn read(maps: &Maps) -> Result<Vec<NodeRoute>> {
    let mut routes = Vec::new();
    for (key, index) in maps.routes.rows()? {
        let (Some(prefix), Some(node)) = (rows::prefix_of(&key), maps.nodes.get(&index)?) else { continue };
        routes.push(NodeRoute { prefix, next_hop: address(node.next_hop) });
    }
    routes.sort();
    Ok(routes)
}
