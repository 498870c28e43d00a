use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ipnet::IpNet;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapHandle, OpenMapMut, PrintLevel};

use crate::maps::{Maps, RawMap};
use crate::pins::Pins;
use crate::rows::block;
use crate::skel::{KilterSkelBuilder, types};
use crate::{Config, EGRESS_MARK, Error, GATEWAY_MAC, Result, SERVICE_PORTS, sys};

/// Marks resets that the programs send into a pod, so that `to_pod` lets them pass.
const RESET_MARK: u32 = 0x6b74_0002;
/// How many routes there can be: four to each of the 5,000 nodes that Kubernetes supports (its pods and
/// itself, in both families), and some. A row is 16 bytes.
const MAX_NODES: u32 = 24_576;
/// No pod may cause more than this part of the flows.
const QUOTA_DIVISOR: u32 = 4;

/// How many rows the tables of Services hold. They grow; a hash bucket costs 16 bytes, used or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) frontends: u32,
    pub(crate) backends: u32,
    pub(crate) chunks: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { frontends: 1_024, backends: 4_096, chunks: 1_024 }
    }
}

/// The loaded programs.
#[derive(Debug)]
pub(crate) struct Programs(pub(crate) BTreeMap<String, OwnedFd>);

impl Programs {
    pub(crate) fn get(&self, name: &'static str) -> Result<BorrowedFd<'_>> {
        let program = self.0.get(name).map(OwnedFd::as_fd);
        program.ok_or_else(|| Error::Config(format!("BUG: the object has no program {name}")))
    }
}

/// Loads the programs with the maps that are pinned, and pins the maps that are not. With `replace`,
/// the tables of Services are new ones of that size, not pinned.
pub(crate) fn load(config: &Config, pins: &Pins, replace: Option<Sizes>) -> Result<(Maps, Programs)> {
    libbpf_rs::set_print(Some((PrintLevel::Debug, trace)));
    // The skeleton borrows from here to the end of this function.
    let mut storage = MaybeUninit::uninit();
    let mut open = KilterSkelBuilder::default().open(&mut storage).map_err(Error::Load)?;
    let rodata = open.maps.rodata_data.as_deref_mut();
    rodata.ok_or_else(|| Error::Config("BUG: the object has no .rodata".into()))?.config = constants(config)?;
    for mut map in open.open_object_mut().maps_mut() {
        if let Some(name) = own_name(&map) {
            let adopt = (!is_replaced(&name, replace)).then(|| pins.map(&name)).filter(|pin| pin.exists());
            let size = size_of_map(&name, config, replace.unwrap_or_default());
            prepare(&mut map, &name, adopt.as_deref(), size)?;
        }
    }
    // Without a tunnel nothing runs it, and verifying it would be a third of a node's start.
    open.progs.from_overlay.set_autoload(config.overlay.is_some());
    let skel = open.load().map_err(Error::Load)?;

    let mut maps = BTreeMap::new();
    for map in skel.object().maps() {
        let Some(name) = map.name().to_str().filter(|name| !name.contains('.')) else { continue };
        if !is_replaced(name, replace) {
            pin_if_new(map.as_fd(), &pins.map(name))?;
        }
        let fd = duplicate(map.as_fd())?;
        let raw = RawMap {
            fd,
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
        };
        maps.insert(name.to_owned(), raw);
    }
    let mut programs = BTreeMap::new();
    for program in skel.object().progs().filter(|program| program.autoload()) {
        programs.insert(program.name().to_string_lossy().into_owned(), duplicate(program.as_fd())?);
    }
    Ok((Maps::new(maps)?, Programs(programs)))
}

/// What libbpf has to say: on failure, the verifier's log.
fn trace(level: PrintLevel, text: String) {
    match level {
        PrintLevel::Warn => tracing::warn!("{}", text.trim_end()),
        PrintLevel::Info | PrintLevel::Debug => tracing::trace!("{}", text.trim_end()),
    }
}

/// The name of a map that is ours to pin; data sections have a dot in theirs.
fn own_name(map: &OpenMapMut<'_>) -> Option<String> {
    map.name().to_str().filter(|name| !name.contains('.')).map(str::to_owned)
}

fn is_replaced(name: &str, replace: Option<Sizes>) -> bool {
    replace.is_some() && matches!(name, "frontends" | "backends" | "chunks")
}

/// Gives a map the pinned one's place, or its size where `bpf/lib/maps.h` leaves that to us.
fn prepare(map: &mut OpenMapMut<'_>, name: &str, adopt: Option<&Path>, size: Option<u32>) -> Result<()> {
    let Some(pin) = adopt else {
        return size.map_or(Ok(()), |size| map.set_max_entries(size)).map_err(Error::Load);
    };
    let foreign = || Error::Foreign { table: name.to_owned(), path: pin.to_path_buf() };
    let pinned = MapHandle::from_pinned_path(pin).map_err(|_| foreign())?;
    let same = pinned.map_type() == map.map_type()
        && pinned.key_size() == map.key_size()
        && pinned.value_size() == map.value_size();
    if !same {
        return Err(foreign());
    }
    map.reuse_fd(pinned.as_fd()).map_err(Error::Load)
}

fn size_of_map(name: &str, config: &Config, sizes: Sizes) -> Option<u32> {
    match name {
        "flows" => Some(config.max_flows),
        // Two rows a connection.
        "nat" => Some(config.max_flows.saturating_mul(2)),
        "endpoints" | "postures" => Some(pods_of(&config.pod_cidrs)),
        // And the node's own.
        "namespaces" => Some(pods_of(&config.pod_cidrs) + 1),
        "nodes" => Some(MAX_NODES),
        "frontends" => Some(sizes.frontends),
        "backends" => Some(sizes.backends),
        "chunks" => Some(sizes.chunks),
        _ => None,
    }
}

/// As many as the blocks have addresses, within reason for a node.
fn pods_of(blocks: &[IpNet]) -> u32 {
    let sizes = blocks.iter().map(|block| 1u32 << (block.max_prefix_len() - block.prefix_len()).min(14));
    sizes.sum::<u32>().max(1)
}

pub(crate) fn constants(config: &Config) -> Result<types::config> {
    let overlapping = |services: &IpNet| {
        let overlaps = |pods: &&IpNet| pods.contains(services) || services.contains(*pods);
        config.pod_cidrs.iter().find(overlaps).map(|pods| (*services, *pods))
    };
    if let Some((services, pods)) = config.service_cidrs.iter().find_map(overlapping) {
        return Err(Error::Config(format!(
            "the Service block {services} overlaps the pod block {pods} of node {}",
            config.node_name
        )));
    }
    if config.max_flows == 0 {
        return Err(Error::Config("a flow table of size 0".into()));
    }
    let (node, node_count) = array("addresses of the node", config.node_ips.iter().map(|ip| wire(*ip)))?;
    let blocks = |what, nets: &[IpNet]| array(what, nets.iter().map(|net| block(*net)));
    let (pods, pods_count) = blocks("pod blocks of the node", &config.pod_cidrs)?;
    let (services, services_count) = blocks("Service blocks", &config.service_cidrs)?;
    let (cluster, cluster_count) = blocks("pod blocks of the cluster", &config.cluster_pod_cidrs)?;
    Ok(types::config {
        abi: types::abi::ABI_VERSION,
        uplink: config.uplink_ifindex,
        overlay: config.overlay.map_or(0, |overlay| overlay.ifindex),
        overlay_vni: config.overlay.map_or(0, |overlay| overlay.vni),
        overlay_port: config.overlay.map_or(0, |overlay| overlay.port),
        egress_mark: EGRESS_MARK,
        reset_mark: RESET_MARK,
        flow_quota: (config.max_flows / QUOTA_DIVISOR).max(1),
        node_count,
        pods_count,
        services_count,
        cluster_count,
        nat_first: SERVICE_PORTS.0,
        nat_last: SERVICE_PORTS.1,
        masquerade_first: config.masquerade_ports.0,
        masquerade_last: config.masquerade_ports.1,
        gateway_mac: GATEWAY_MAC,
        retry_refused: config.retry_refused.into(),
        pad: [0; 3],
        node,
        pods,
        services,
        cluster,
    })
}

/// What the programs hold in an array of fixed size, and how much of it is used.
fn array<T: Default + Copy, const N: usize>(
    what: &str,
    values: impl ExactSizeIterator<Item = T>,
) -> Result<([T; N], u32)> {
    let count = values.len();
    if count > N {
        return Err(Error::Config(format!("{count} {what}; there can be {N}")));
    }
    let mut array = [T::default(); N];
    array.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    Ok((array, count as u32))
}

/// An address as it lies in rows: that of IPv4 in mapped form.
pub(crate) fn wire(address: IpAddr) -> types::address {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let (high, low) = octets.split_at(8);
    let half = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    types::address { half: [half(high), half(low)] }
}

/// The reverse of [`wire`].
pub(crate) fn address(wire: types::address) -> IpAddr {
    let mut octets = [0; 16];
    octets.chunks_exact_mut(8).zip(wire.half).for_each(|(to, half)| to.copy_from_slice(&half.to_ne_bytes()));
    Ipv6Addr::from(octets).to_canonical()
}

/// Pins a map in place of the one that is pinned there.
pub(crate) fn replace_pin(map: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let next = path.with_file_name(format!("{name}-next"));
    Pins::remove(&next)?;
    sys::pin(map, &next).map_err(|e| Pins::error("pin a table at", &next, e))?;
    std::fs::rename(&next, path).map_err(|e| Pins::error("rename a pin to", path, e))
}

fn pin_if_new(map: BorrowedFd<'_>, path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    sys::pin(map, path).map_err(|e| Pins::error("pin a table at", path, e))
}

pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(|source| Error::Run { program: "dup", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Fabric, Node};

    /// Each node loads all programs, so a cluster's twin pays for what the verifier walks as often as it has
    /// nodes. What a change adds by accident is a factor: a subject that every path walks anew.
    #[test]
    fn the_verifier_walks_each_subject_once() {
        const MOST: u32 = 40_000;
        let fabric = Fabric::new();
        let mut node = Node::tunnelled(&fabric, 1, 0);
        for (name, program) in &node.datapath().programs.0 {
            let walked = sys::program_info(program.as_fd()).unwrap().0.verified_insns;
            assert!((1..MOST).contains(&walked), "the verifier walks {walked} instructions of {name}");
        }
    }

    #[test]
    fn what_is_for_a_tunnel_is_loaded_with_a_tunnel_only() {
        let fabric = Fabric::new();
        let mut plain = Node::new(&fabric, 1);
        assert!(plain.datapath().programs.get("from_overlay").is_err());
        let mut tunnelled = Node::tunnelled(&fabric, 2, 0);
        assert!(tunnelled.datapath().programs.get("from_overlay").is_ok());
    }
}
