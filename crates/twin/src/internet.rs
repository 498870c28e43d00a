//! The internet beyond the fabric: a namespace with one server, at addresses that documentation may use
//! (RFC 5737, RFC 3849). The fabric is the way there, and hides the nodes behind its own address, as the
//! NAT gateway of a VPC does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::IpNet;
use kilter_dns::{Identity, Outside, Sockets};
use kilter_model::Family;
use kilter_netlink::{Netlink, Peer, Route, SourceNat, Veth};
use kilter_netns::NetNs;
use kilter_wire::control::{IS, WHO};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::mounts::create_namespace;
use crate::paths::Layout;
use crate::spec::TwinSpec;

/// The fabric's link towards the internet, and the internet's own.
const LINK: &str = "internet";
const INSIDE: &str = "eth0";
const MTU: u32 = 1500;

/// Who the server says it is.
pub const NAME: &str = "internet";
/// Where it speaks HTTP.
pub const HTTP: u16 = 80;
const DNS: u16 = 53;

/// A client that sends more has no business here.
const MAX_REQUEST: u64 = 64 << 10;

/// The fabric's address there, behind which nodes are hidden.
pub fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// The server's address.
pub fn server(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 10).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10).into(),
    }
}

/// Where cluster DNS asks for names outside.
pub fn dns_servers(spec: &TwinSpec) -> Vec<SocketAddr> {
    spec.families().into_iter().map(|family| SocketAddr::new(server(family), DNS)).collect()
}

fn on_link(address: IpAddr) -> Result<IpNet> {
    Ok(IpNet::new(address, if address.is_ipv4() { 24 } else { 64 })?)
}

/// Makes the namespace and plugs it into the fabric.
pub async fn create(layout: &Layout, spec: &TwinSpec, fabric: &Netlink) -> Result<()> {
    let namespace = create_namespace(&layout.internet())?;
    crate::fabric::forward(&namespace, &spec.node_subnets)?;
    let peer = Peer { name: INSIDE, mac: None, namespace: &namespace };
    fabric.create_veth(&Veth { name: LINK, mac: None, mtu: MTU, peer }).await?;
    let inside = Netlink::new(&namespace)?;
    let (outer, inner) = (fabric.link_index(LINK).await?, inside.link_index(INSIDE).await?);
    for family in spec.families() {
        fabric.add_address(outer, on_link(gateway(family))?).await?;
        inside.add_address(inner, on_link(server(family))?).await?;
    }
    for (netlink, link) in [(fabric, outer), (&inside, inner)] {
        netlink.set_up(link).await?;
    }
    inside.set_up(inside.link_index("lo").await?).await?;
    // Nodes and load balancers have addresses that are known out there; pods do not.
    for subnet in spec.node_subnets.iter().chain(&spec.lb_pools) {
        let family = if subnet.addr().is_ipv4() { Family::V4 } else { Family::V6 };
        inside.replace_route(&Route::via(subnet.trunc(), gateway(family), inner)).await?;
    }
    let fabric = NetNs::open(layout.fabric())?;
    for family in spec.families() {
        let family = match family {
            Family::V4 => kilter_netlink::Family::V4,
            Family::V6 => kilter_netlink::Family::V6,
        };
        SourceNat { family, link: LINK.to_owned() }.replace(&fabric)?;
    }
    Ok(())
}

/// Opens the server's sockets and serves; ends with the process.
pub fn serve(layout: &Layout, spec: &TwinSpec) -> Result<()> {
    let namespace = NetNs::open(layout.internet())?;
    let addresses: Vec<IpAddr> = spec.families().into_iter().map(server).collect();
    for address in &addresses {
        let at = |port| SocketAddr::new(*address, port);
        let sockets = Sockets::open(&namespace, at(DNS)).context("open the internet's DNS")?;
        let outside = Outside::new(addresses.clone());
        let dns = kilter_dns::serve(sockets, outside, None, Identity { strings: vec![NAME.to_owned()] })?;
        let http = namespace.run(|| std::net::TcpListener::bind(at(HTTP)))?.context("open the internet's HTTP")?;
        http.set_nonblocking(true)?;
        tokio::spawn(accept(TcpListener::from_std(http)?, Arc::new(dns)));
    }
    Ok(())
}

/// Serves connections; holds the DNS server of the same address.
async fn accept(listener: TcpListener, dns: Arc<kilter_dns::Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, from).await {
                        tracing::debug!(%from, %error, "a client of the internet went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, dns = %dns.address(), "the internet cannot accept connections");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Says who it is to [`WHO`], and to HTTP whom it saw.
async fn converse(mut stream: TcpStream, from: SocketAddr) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(MAX_REQUEST)).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(nonce) = line.strip_prefix(WHO) {
            write.write_all(format!("{IS} {NAME}{nonce}\n").as_bytes()).await?;
        } else if line.is_empty() {
            let body = format!("{{\"server\":\"{NAME}\",\"client\":\"{from}\"}}\n");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            return write.write_all(answer.as_bytes()).await;
        }
    }
    Ok(())
}
