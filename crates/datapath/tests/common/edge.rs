//! Services from outside: two nodes, a fabric from which clients ask, and rows that lead to pods.

use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use kilter_model::Protocol;
use kilter_netns::NetNs;
use kilter_services::{Backend, Flags, Frontend, FrontendRow, Plan, Weighted, Write};

use super::*;

pub const NODE_PORT: u16 = 30_080;

/// Makes a frontend for packets from outside stand for these backends, under a new revision.
pub fn put(node: &mut Node, at: IpAddr, port: u16, protocol: Protocol, backends: &[(IpAddr, u16)], flags: Flags) {
    let loaded = node.datapath().read_services().unwrap();
    let revision = loaded.frontends.values().map(|row| row.revision).max().unwrap_or(0) + 1;
    let mut plan = Plan::default();
    for (slot, (address, port)) in (0u32..).zip(backends) {
        plan.prepare.push(Write::PutBackend { revision, slot, backend: Backend { address: *address, port: *port } });
    }
    let row = FrontendRow { revision, count: backends.len() as u32, flags, affinity: 0, places: 0 };
    plan.switch.push(Write::PutFrontend { frontend: Frontend::outside(at, port, protocol), row });
    node.datapath().apply_services(&plan).unwrap();
}

/// Changes the row of a frontend that was put.
pub fn amend(node: &mut Node, at: IpAddr, port: u16, ranges: &[&str], change: impl FnOnce(&mut FrontendRow)) {
    let frontend = Frontend::outside(at, port, Protocol::Tcp);
    let mut row = node.datapath().read_services().unwrap().frontends[&frontend];
    change(&mut row);
    let put = |range: &&str| Write::PutSource { revision: row.revision, range: range.parse().unwrap() };
    let prepare = ranges.iter().map(put).collect();
    let plan = Plan { prepare, switch: vec![Write::PutFrontend { frontend, row }], ..Plan::default() };
    node.datapath().apply_services(&plan).unwrap();
}

/// Makes an address from outside stand for these backends, by the table that every node makes alike.
pub fn put_table(node: &mut Node, at: IpAddr, port: u16, backends: &[(IpAddr, u16)], flags: Flags) {
    put(node, at, port, Protocol::Tcp, backends, flags);
    let weighted = |(address, port): &(IpAddr, u16)| Weighted { backend: Backend { address: *address, port: *port }, weight: 1 };
    let all: Vec<Weighted> = backends.iter().map(weighted).collect();
    let table = kilter_services::maglev::table(&all);
    let frontend = Frontend::outside(at, port, Protocol::Tcp);
    let row = node.datapath().read_services().unwrap().frontends[&frontend];
    let mut plan = Plan::default();
    for (chunk, part) in (0u32..).zip(table.chunks(kilter_services::CHUNK)) {
        let mut slots = [0; kilter_services::CHUNK];
        slots[..part.len()].copy_from_slice(part);
        plan.prepare.push(Write::PutChunk { revision: row.revision, chunk, slots });
    }
    plan.switch.push(Write::PutFrontend { frontend, row: FrontendRow { places: table.len() as u32, ..row } });
    node.datapath().apply_services(&plan).unwrap();
    let loaded = node.datapath().read_services().unwrap();
    assert_eq!(loaded.table_of(&loaded.frontends[&frontend]), table);
}

/// The node port of both protocols, in the family of the backends.
pub fn expose(node: &mut Node, backends: &[(IpAddr, u16)]) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        put(node, any(backends[0].0), NODE_PORT, protocol, backends, Flags::default());
    }
}

/// What stands for each node's address.
pub fn any(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() }
}

pub fn listen(netns: &NetNs, at: IpAddr, port: u16) -> TcpListener {
    netns.run(|| TcpListener::bind((at, port))).unwrap().unwrap()
}

pub fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, peer) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (stream, peer)
}

/// One node with a pod, another with one, and a fabric from which clients ask.
pub struct World {
    pub one: Node,
    pub two: Node,
    pub near: Pod,
    pub far: Pod,
    pub fabric: Fabric,
    /// Of pods' links, in bytes.
    pub mtu: u32,
}

impl World {
    pub fn new() -> Self {
        let fabric = Fabric::new();
        let nodes = [1, 2].map(|number| Node::new(&fabric, number));
        Self::of(fabric, nodes)
    }

    /// With a tunnel between the nodes' addresses of this family, and pods' links no wider than it.
    pub fn tunnelled(family: usize) -> Self {
        let fabric = Fabric::new();
        let nodes = [1, 2].map(|number| Node::tunnelled(&fabric, number, family));
        let world = Self { mtu: OVERLAY_MTU[family], ..Self::of(fabric, nodes) };
        world.near.narrow(&world.one, world.mtu);
        world.far.narrow(&world.two, world.mtu);
        world
    }

    pub fn of(fabric: Fabric, [mut one, mut two]: [Node; 2]) -> Self {
        let (near, far) = (one.pod(5), two.pod(5));
        Self { one, two, near, far, fabric, mtu: 1500 }
    }

    /// One of each way in which pods' packets travel between nodes.
    pub fn each() -> impl Iterator<Item = Self> {
        std::iter::once_with(Self::new).chain(FAMILIES.into_iter().map(Self::tunnelled))
    }

    /// Another pod of node two.
    pub fn asker(&mut self) -> Pod {
        let pod = self.two.pod(6);
        pod.narrow(&self.two, self.mtu);
        pod
    }

    pub fn drops(&mut self) -> usize {
        self.one.datapath().stats().unwrap().drops.len() + self.two.datapath().stats().unwrap().drops.len()
    }
}

/// Much, both ways, and the end of each direction.
#[track_caller]
pub fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    let sent: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
    for (from, to) in [(&*client, &*server), (&*server, &*client)] {
        let mut back = vec![0; sent.len()];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut from = from;
                from.write_all(&sent).unwrap();
                from.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut to = to;
            to.read_exact(&mut back).unwrap();
            assert_eq!(to.read(&mut [0; 1]).unwrap(), 0, "the end");
        });
        assert!(back == sent, "other bytes arrived");
    }
}

/// Sends until it arrives.
#[track_caller]
pub fn repeat(client: &UdpSocket, data: &[u8], to: SocketAddr, server: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    server.set_read_timeout(Some(SILENCE)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        client.send_to(data, to).unwrap();
        match server.recv_from(buffer) {
            Err(error) if Instant::now() > deadline => panic!("{to}: {error}"),
            Err(_) => {}
            Ok(arrived) => return arrived,
        }
    }
}

pub fn connected_udp(netns: &NetNs, from: IpAddr, to: IpAddr, port: u16) -> UdpSocket {
    let socket = udp(netns, from, 0);
    netns.run(|| socket.connect((to, port))).unwrap().unwrap();
    socket
}

/// A connection from a port of the client's choice, which it may use again at once.
pub fn connect_from(netns: &NetNs, port: u16, to: SocketAddr) -> TcpStream {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd;

    let from = SocketAddr::new(OUTSIDES[0], port);
    let made = netns.run(|| {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The former connection of these ends may still be closing.
            match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
                Err(nix::errno::Errno::EADDRNOTAVAIL) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => break other.map(|()| TcpStream::from(socket)),
            }
        }
    });
    let stream = made.unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
