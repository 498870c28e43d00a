//! The IP header of a [`super::Packet`], of either version.

use std::net::IpAddr;

use etherparse::{EtherType, IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header};

#[derive(Debug, Clone)]
pub(super) enum Ip {
    V4(Ipv4Header),
    V6(V6),
}

#[derive(Debug, Clone)]
pub(super) struct V6 {
    pub(super) header: Ipv6Header,
    /// Number and content of each extension header; the first byte names the one after it.
    extensions: Vec<(IpNumber, Vec<u8>)>,
    transport: IpNumber,
}

impl Ip {
    #[track_caller]
    pub(super) fn new(from: IpAddr, to: IpAddr, transport: IpNumber) -> Self {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = Ipv4Header::new(0, 64, transport, from.octets(), to.octets());
                let mut header = header.expect("an empty payload fits");
                header.dont_fragment = true;
                Self::V4(header)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (source, destination) = (from.octets(), to.octets());
                let header = Ipv6Header { hop_limit: 64, source, destination, ..Ipv6Header::default() };
                Self::V6(V6 { header, extensions: Vec::new(), transport })
            }
            (from, to) => panic!("{from} and {to} are of two families"),
        }
    }

    pub(super) fn ether_type(&self) -> EtherType {
        match self {
            Self::V4(_) => EtherType::IPV4,
            Self::V6(_) => EtherType::IPV6,
        }
    }

    pub(super) fn source(&self) -> IpAddr {
        match self {
            Self::V4(header) => IpAddr::from(header.source),
            Self::V6(v6) => IpAddr::from(v6.header.source),
        }
    }

    pub(super) fn set_ttl(&mut self, ttl: u8) {
        match self {
            Self::V4(header) => header.time_to_live = ttl,
            Self::V6(v6) => v6.header.hop_limit = ttl,
        }
    }

    #[track_caller]
    pub(super) fn add_extension(&mut self, number: u8, content: &[u8]) {
        let Self::V6(v6) = self else { panic!("IPv4 has no extension headers") };
        v6.extensions.push((IpNumber(number), [&[0], content].concat()));
    }

    /// `offset` in units of eight bytes.
    #[track_caller]
    pub(super) fn set_fragment(&mut self, id: u32, offset: u16, more: bool) {
        let offset = IpFragOffset::try_new(offset).expect("a fragment offset has 13 bits");
        match self {
            Self::V4(header) => {
                header.identification = id.try_into().expect("an id of IPv4 has 16 bits");
                (header.fragment_offset, header.more_fragments, header.dont_fragment) = (offset, more, false);
            }
            Self::V6(v6) => {
                let fragment = Ipv6FragmentHeader::new(IpNumber(0), offset, more, id);
                v6.extensions.push((IpNumber::IPV6_FRAGMENTATION_HEADER, fragment.to_bytes().to_vec()));
            }
        }
    }

    /// The header's bytes before a payload of this length.
    pub(super) fn build(&self, payload: usize) -> Vec<u8> {
        match self {
            Self::V4(header) => {
                let mut header = header.clone();
                header.set_payload_len(payload).expect("at most 65,535 bytes");
                header.header_checksum = header.calc_header_checksum();
                header.to_bytes().to_vec()
            }
            Self::V6(v6) => v6.build(payload),
        }
    }
}

impl V6 {
    fn build(&self, payload: usize) -> Vec<u8> {
        let mut next = self.transport;
        let mut chain = Vec::new();
        for (number, content) in self.extensions.iter().rev() {
            let mut extension = content.clone();
            extension[0] = next.0;
            chain.splice(0..0, extension);
            next = *number;
        }
        let mut header = self.header.clone();
        header.next_header = next;
        header.set_payload_length(chain.len() + payload).expect("at most 65,535 bytes");
        [&header.to_bytes()[..], &chain].concat()
    }
}
