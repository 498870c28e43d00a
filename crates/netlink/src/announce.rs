//! Telling a link whose an address is now, and hearing who asks.
//!
//! No link here has these addresses, so the kernel does neither by itself. Answers are not given here.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{Error, Mac};

const EVERYBODY: Mac = [0xff; 6];
/// The group of all IPv6 nodes of a link (RFC 2464, 7).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ETH_ARP: u16 = 0x0806;
const ETH_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;

/// Tells everybody on a link of the calling thread's namespace that an address is at this hardware address
/// now: an ARP announcement (RFC 5227, 2.3), or an unsolicited neighbour advertisement (RFC 4861, 7.2.6).
///
/// # Errors
/// Without CAP_NET_RAW, or where the link is gone or down.
pub fn announce(link: u32, mac: Mac, address: IpAddr) -> Result<(), Error> {
    let frame = match address {
        IpAddr::V4(it) => announcement(mac, it.octets()),
        IpAddr::V6(it) => advertisement(mac, it),
    };
    let failed = |source| Error::new("announce", address.to_string(), "(this process's)", source);
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
    socket.map_err(io::Error::from).and_then(|socket| send(&socket, link, &frame)).map_err(failed)
}

#[allow(unsafe_code)]
fn send(socket: &OwnedFd, link: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is plain data, for which all zeroes are a value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = i32::try_from(link).map_err(io::Error::other)?;
    // SAFETY: frame and address are valid for reads of the lengths given, for as long as the call lasts.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn ethernet(to: Mac, from: Mac, protocol: u16) -> Vec<u8> {
    [&to[..], &from, &protocol.to_be_bytes()].concat()
}

/// A request for the address by itself.
fn announcement(mac: Mac, address: [u8; 4]) -> Vec<u8> {
    // Ethernet, IPv4, the lengths of their addresses, a request (RFC 826).
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&ethernet(EVERYBODY, mac, ETH_ARP)[..], &head, &mac, &address, &[0; 6], &address].concat()
}

fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    // Type 136, code 0, checksum, flags (override), the target, its hardware address as option 2.
    let mut message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &address.octets(), &[2, 1], &mac].concat();
    let length = message.len() as u16;
    let mut pseudo = [&address.octets()[..], &ALL_NODES.octets(), &[0, 0], &length.to_be_bytes()].concat();
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(&message);
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let mut frame = ethernet(ALL_NODES_MAC, mac, ETH_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The Internet checksum of whole words (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.fold(0, |sum: u32, word| sum + word);
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}

/// Has a link take in questions about IPv6 addresses that it does not have, as long as this lives: they are
/// sent to groups, which devices and switches filter.
#[derive(Debug)]
pub struct Listening {
    socket: UdpSocket,
    link: u32,
    groups: BTreeSet<Ipv6Addr>,
}

impl Listening {
    /// Listens for nothing yet, on a link of the calling thread's namespace.
    ///
    /// # Errors
    /// Where there is no IPv6.
    pub fn new(link: u32) -> Result<Self, Error> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
        let failed = |source| Error::new("listen on", format!("link {link}"), "(this process's)", source);
        Ok(Self { socket: socket.map_err(failed)?, link, groups: BTreeSet::new() })
    }

    /// Listens for questions about these addresses, and no others.
    ///
    /// # Errors
    /// Where the link is gone, or in too many groups.
    pub fn set<'a>(&mut self, addresses: impl IntoIterator<Item = &'a IpAddr>) -> Result<(), Error> {
        let ipv6 = addresses.into_iter().filter_map(|it| if let IpAddr::V6(it) = it { Some(it) } else { None });
        let wanted: BTreeSet<Ipv6Addr> = ipv6.map(group).collect();
        let failed = |group: &Ipv6Addr| {
            let (object, link) = (format!("group {group}"), format!("link {}", self.link));
            move |source| Error::new("join or leave", format!("{object} on {link}"), "(this process's)", source)
        };
        for group in wanted.difference(&self.groups) {
            self.socket.join_multicast_v6(group, self.link).map_err(failed(group))?;
        }
        for group in self.groups.difference(&wanted) {
            self.socket.leave_multicast_v6(group, self.link).map_err(failed(group))?;
        }
        self.groups = wanted;
        Ok(())
    }
}

/// The group of all whose address ends alike (RFC 4291, 2.7.1).
fn group(address: &Ipv6Addr) -> Ipv6Addr {
    let [.., a, b] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (a & 0xff), b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_an_advertisement_covers_its_pseudo_header() {
        let address: Ipv6Addr = "fd00:240::ff07".parse().unwrap();
        let frame = advertisement([2, 0, 0, 0, 0, 9], address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        let mut summed = frame[14 + 8..].to_vec();
        summed.extend([0, 32, 0, ICMPV6]);
        assert_eq!(checksum(&summed), 0, "with its checksum it sums to nothing");
    }

    #[test]
    fn a_group_has_the_last_three_bytes_of_an_address() {
        assert_eq!(group(&"fd00::12:3456:789a".parse().unwrap()), "ff02::1:ff56:789a".parse::<Ipv6Addr>().unwrap());
    }
}
