//! What IPv6 needs that IPv4 does not: by itself a link gives itself addresses, believes routers, and
//! holds new addresses back for two seconds while it looks for others that have them.

use std::path::Path;
use std::sync::OnceLock;

use crate::sysctl::Setting;

/// Whether the kernel speaks IPv6 at all; booted without, it has no such settings.
pub fn has_ipv6() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| Path::new("/proc/sys/net/ipv6").exists())
}

/// For a pod's side of its link, before it is set up: no duplicate address detection, also not of the
/// link's own address (it keeps `bind` failing), and no word from routers.
pub fn pod_side(link: &str) -> [Setting; 3] {
    [("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")]
        .map(|(name, value)| of(link, name, value))
}

/// For the node's side: nobody talks to it by an address of its own, so it has none.
pub fn node_side(link: &str) -> [Setting; 4] {
    // 1: IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
    [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_dad", "0"), ("accept_ra", "0")]
        .map(|(name, value)| of(link, name, value))
}

/// For a node: it forwards. That alone makes it deaf to routers, on every link.
pub fn forwarding() -> Setting {
    of("all", "forwarding", "1")
}

fn of(link: &str, name: &str, value: &'static str) -> Setting {
    (format!("net/ipv6/conf/{link}/{name}"), value)
}
