//! Can this machine run a twin? One clear message where it cannot.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// Why this machine, or this user on it, cannot run a twin.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  {remedy}")]
pub struct MachineError {
    /// What is missing.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Capabilities that building a network takes, with their numbers (capability.h).
const NEEDED: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Checks rights, cgroup2 and the data plane's needs of the kernel.
pub fn check() -> Result<(), MachineError> {
    check_rights()?;
    if let Err(error) = crate::cgroup::mount_point() {
        return Err(MachineError {
            what: "this machine has no cgroup2 mount".into(),
            remedy: error.to_string(),
        });
    }
    kilter_node::check_kernel().map_err(|error| MachineError {
        what: format!("this kernel cannot carry the data plane: {error}"),
        remedy: "Kilter needs Linux 6.6 or newer with BTF (CONFIG_DEBUG_INFO_BTF) and eBPF".into(),
    })
}

/// Checks that this process may make and remove network namespaces and eBPF programs.
pub fn check_rights() -> Result<(), MachineError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<_> =
        NEEDED.iter().filter(|(_, bit)| effective & (1 << bit) == 0).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let root = nix::unistd::geteuid().is_root();
    Err(MachineError {
        what: format!("a twin is made of network namespaces and eBPF, and this process lacks {}", missing.join(", ")),
        remedy: if root {
            "this root is confined (a container?); run Kilter on the machine itself or with these capabilities".into()
        } else {
            "run it with sudo; `kilter connections` needs no rights".into()
        },
    })
}

/// This machine's own addresses with their links, loopback left out.
pub fn addresses() -> Vec<(String, IpAddr)> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|it| {
            let address = it.address?;
            let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::V4(v4.ip()),
                (_, Some(v6)) => IpAddr::V6(v6.ip()),
                _ => return None,
            };
            (!ip.is_loopback()).then_some((it.interface_name, ip))
        })
        .collect()
}
