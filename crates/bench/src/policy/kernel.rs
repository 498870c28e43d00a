//! The rows of one node, written to the kernel of a node that has nothing else. Needs root.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use kilter_datapath::{Config, Datapath};
use kilter_netlink::{Netlink, Peer, Veth};
use kilter_netns::NetNs;
use kilter_policy::{Plan, Tables};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// What it cost.
pub struct Written {
    /// From the first row to the last, seconds.
    pub seconds: f64,
    /// What the kernel says its maps take for them, bytes.
    pub bytes: u64,
}

/// Writes a plan and reads it back: the rows must be those of the tables.
pub fn write(plan: &Plan, tables: &Tables, pod_cidr: &str) -> Result<Written> {
    let (bpffs, cgroup) = (BpfFs::mount()?, Cgroup::create()?);
    let (node, uplink) = (NetNs::create().context("make a network namespace")?, NetNs::create()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let uplink_ifindex = runtime.block_on(async {
        let netlink = Netlink::new(&node)?;
        let peer = Peer { name: "up0", mac: None, namespace: &uplink };
        netlink.create_veth(&Veth { name: "eth0", mac: None, mtu: 1500, peer }).await?;
        anyhow::Ok(netlink.link_index("eth0").await?)
    })?;
    let config = Config {
        pin_dir: bpffs.0.join("node"),
        node_name: "node-7".into(),
        node_ips: vec!["10.250.0.11".parse()?],
        uplink_ifindex,
        overlay: None,
        pod_cidrs: vec!["10.64.6.0/23".parse()?],
        cluster_pod_cidrs: vec![pod_cidr.parse::<IpNet>()?],
        service_cidrs: vec!["10.192.0.0/16".parse()?],
        masquerade_ports: (61_000, 65_535),
        cgroup: cgroup.0.clone(),
        retry_refused: false,
        max_flows: 1024,
    };
    let mut datapath = node.run(|| Datapath::open(config)).context("enter the namespace")??;
    let before = memory_of_maps()?;
    let start = Instant::now();
    datapath.apply_policy(plan)?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = memory_of_maps()?.saturating_sub(before);
    let (read, wanted) = (datapath.read_policy()?, Tables { rules: Default::default(), ..tables.clone() });
    if read != wanted {
        bail!("the kernel does not hold what was written");
    }
    drop(datapath);
    Ok(Written { seconds, bytes })
}

/// Whether this process may do so.
pub fn is_possible() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What the kernel counts for the maps that this process holds.
fn memory_of_maps() -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir("/proc/self/fd").context("list this process's descriptors")? {
        let entry = entry?.path();
        // The descriptor of the listing itself is gone by now.
        if !std::fs::read_link(&entry).is_ok_and(|it| it == Path::new("anon_inode:bpf-map")) {
            continue;
        }
        let number = entry.file_name().unwrap_or_default();
        let info = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(number))?;
        let memory = info.lines().find_map(|line| line.strip_prefix("memlock:"));
        bytes += memory.and_then(|it| it.trim().parse::<u64>().ok()).context("a map without its size")?;
    }
    Ok(bytes)
}

/// A BPF file system that goes when this is dropped.
struct BpfFs(PathBuf, #[expect(dead_code, reason = "the directory, which goes after the mount")] tempfile::TempDir);

impl BpfFs {
    fn mount() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().to_owned();
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>).context("mount a bpffs")?;
        Ok(Self(path, directory))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A cgroup that goes when this is dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn create() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|it| it.get(2) == Some(&"cgroup2"));
        let root = root.context("no cgroup2 is mounted")?[1].to_owned();
        let path = Path::new(&root).join(format!("kilter-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
