use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpFragOffset, IpNumber, Ipv4Header,
    TcpHeader, UdpHeader, icmpv4::DestUnreachableHeader,
};

/// An Ethernet frame with an IPv4 packet, built field by field, checksums right.
///
/// ```
/// let syn = kilter_testkit::Packet::tcp("10.0.0.1:40000", "10.0.0.2:80").syn().build();
/// assert_eq!(syn.len(), 14 + 20 + 20);
/// ```
#[derive(Debug, Clone)]
pub struct Packet {
    link: Ethernet2Header,
    ip: Ipv4Header,
    transport: Transport,
    payload: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Transport {
    Tcp(Box<TcpHeader>),
    Udp {
        source: u16,
        destination: u16,
    },
    Icmp(Icmpv4Type),
    /// The payload is all there is: other protocols and later fragments.
    None,
}

impl Packet {
    /// A TCP segment without flags. Addresses are `ADDRESS:PORT`.
    #[track_caller]
    pub fn tcp(from: &str, to: &str) -> Self {
        let (from, to) = (socket(from), socket(to));
        let header = TcpHeader::new(from.port(), to.port(), 1, 64_240);
        Self::new(*from.ip(), *to.ip(), IpNumber::TCP, Transport::Tcp(Box::new(header)))
    }

    /// A UDP datagram. Addresses are `ADDRESS:PORT`.
    #[track_caller]
    pub fn udp(from: &str, to: &str) -> Self {
        let (from, to) = (socket(from), socket(to));
        let transport = Transport::Udp { source: from.port(), destination: to.port() };
        Self::new(*from.ip(), *to.ip(), IpNumber::UDP, transport)
    }

    /// An ICMP echo request with identifier `id`.
    #[track_caller]
    pub fn echo_request(from: &str, to: &str, id: u16) -> Self {
        let kind = Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: 1 });
        Self::new(address(from), address(to), IpNumber::ICMP, Transport::Icmp(kind))
    }

    /// An ICMP echo reply with identifier `id`.
    #[track_caller]
    pub fn echo_reply(from: &str, to: &str, id: u16) -> Self {
        let kind = Icmpv4Type::EchoReply(IcmpEchoHeader { id, seq: 1 });
        Self::new(address(from), address(to), IpNumber::ICMP, Transport::Icmp(kind))
    }

    /// ICMP "fragmentation needed" from `from` to the sender of `about`, which it quotes (header
    /// and eight bytes, RFC 792).
    #[track_caller]
    pub fn fragmentation_needed(from: &str, about: &Self, next_hop_mtu: u16) -> Self {
        let kind =
            Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu });
        let quote = &about.build()[Ethernet2Header::LEN..];
        let quote = &quote[..quote.len().min(Ipv4Header::MIN_LEN + 8)];
        Self::new(address(from), about.ip.source.into(), IpNumber::ICMP, Transport::Icmp(kind)).payload(quote)
    }

    /// Any other protocol, by number.
    #[track_caller]
    pub fn other(from: &str, to: &str, protocol: u8) -> Self {
        Self::new(address(from), address(to), IpNumber(protocol), Transport::None)
    }

    fn new(from: Ipv4Addr, to: Ipv4Addr, protocol: IpNumber, transport: Transport) -> Self {
        let mut ip =
            Ipv4Header::new(0, 64, protocol, from.octets(), to.octets()).expect("an empty payload fits");
        ip.dont_fragment = true;
        let link = Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ether_type: EtherType::IPV4,
        };
        Self { link, ip, transport, payload: Vec::new() }
    }

    /// Source and destination MAC.
    pub fn macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        (self.link.source, self.link.destination) = (source, destination);
        self
    }

    /// What comes after the last header.
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }

    /// The IPv4 time to live (64 when not set).
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ip.time_to_live = ttl;
        self
    }

    /// IPv4 options; a multiple of four bytes, at most forty.
    #[track_caller]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip.options = options.try_into().expect("options of 0 to 40 bytes, in words of four");
        self
    }

    /// Makes it fragment number one: more follow, offset 0.
    pub fn first_fragment(mut self, id: u16) -> Self {
        (self.ip.identification, self.ip.more_fragments, self.ip.dont_fragment) = (id, true, false);
        self
    }

    /// Makes it a later fragment at `offset` (in units of eight bytes): ports are not in it.
    #[track_caller]
    pub fn later_fragment(mut self, id: u16, offset: u16, more: bool) -> Self {
        (self.ip.identification, self.ip.more_fragments, self.ip.dont_fragment) = (id, more, false);
        self.ip.fragment_offset = IpFragOffset::try_new(offset).expect("a fragment offset has 13 bits");
        self.transport = Transport::None;
        self
    }

    /// TCP flags: SYN.
    #[track_caller]
    pub fn syn(self) -> Self {
        self.flags(|tcp| tcp.syn = true)
    }

    /// TCP flags: SYN and ACK.
    #[track_caller]
    pub fn syn_ack(self) -> Self {
        self.flags(|tcp| (tcp.syn, tcp.ack) = (true, true))
    }

    /// TCP flags: ACK.
    #[track_caller]
    pub fn ack(self) -> Self {
        self.flags(|tcp| tcp.ack = true)
    }

    /// TCP flags: FIN and ACK.
    #[track_caller]
    pub fn fin(self) -> Self {
        self.flags(|tcp| (tcp.fin, tcp.ack) = (true, true))
    }

    /// TCP flags: RST.
    #[track_caller]
    pub fn rst(self) -> Self {
        self.flags(|tcp| tcp.rst = true)
    }

    #[track_caller]
    fn flags(mut self, set: impl FnOnce(&mut TcpHeader)) -> Self {
        let Transport::Tcp(header) = &mut self.transport else { panic!("only TCP has flags") };
        set(header);
        self
    }

    /// The frame's bytes.
    pub fn build(&self) -> Vec<u8> {
        let (from, to) = (self.ip.source, self.ip.destination);
        let transport = match &self.transport {
            Transport::Tcp(header) => {
                let mut header = (**header).clone();
                header.checksum =
                    header.calc_checksum_ipv4_raw(from, to, &self.payload).expect("a short payload");
                header.to_bytes().to_vec()
            }
            Transport::Udp { source, destination } => {
                let header = UdpHeader::with_ipv4_checksum(*source, *destination, &self.ip, &self.payload);
                header.expect("a short payload").to_bytes().to_vec()
            }
            Transport::Icmp(kind) => {
                Icmpv4Header::with_checksum(kind.clone(), &self.payload).to_bytes().to_vec()
            }
            Transport::None => Vec::new(),
        };
        let mut ip = self.ip.clone();
        ip.set_payload_len(transport.len() + self.payload.len()).expect("at most 65,535 bytes");
        ip.header_checksum = ip.calc_header_checksum();
        [&self.link.to_bytes()[..], &ip.to_bytes(), &transport, &self.payload].concat()
    }
}

#[track_caller]
fn socket(text: &str) -> SocketAddrV4 {
    text.parse().unwrap_or_else(|error| panic!("`{text}` is not ADDRESS:PORT over IPv4: {error}"))
}

#[track_caller]
fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap_or_else(|error| panic!("`{text}` is not an IPv4 address: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn a_syn_parses_back_with_right_checksums() {
        let frame = Packet::tcp("10.0.0.1:40000", "10.0.0.2:80").syn().ttl(9).macs([1; 6], [4; 6]).build();
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("not IPv4") };
        let header = ip.header().to_header();
        assert_eq!((header.time_to_live, header.header_checksum), (9, header.calc_header_checksum()));
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("not TCP") };
        assert!(tcp.syn() && !tcp.ack());
        assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 80));
        let checksum =
            tcp.to_header().calc_checksum_ipv4_raw(header.source, header.destination, &[]).unwrap();
        assert_eq!(tcp.checksum(), checksum);
    }

    #[test]
    fn an_icmp_error_quotes_the_packet_that_caused_it() {
        let cause = Packet::udp("10.0.0.1:53000", "10.0.0.9:53").payload([7; 100]);
        let frame = Packet::fragmentation_needed("10.0.0.254", &cause, 1_400).build();
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { panic!("not ICMP") };
        assert_eq!(icmp.payload(), &cause.build()[14..14 + 28]);
    }

    #[test]
    fn a_later_fragment_has_no_transport_header() {
        let frame =
            Packet::udp("10.0.0.1:1", "10.0.0.2:2").payload([1; 16]).later_fragment(77, 3, false).build();
        let ip = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        assert_eq!((ip.identification, ip.fragment_offset.value(), ip.more_fragments), (77, 3, false));
        assert_eq!(frame.len(), 14 + 20 + 16);
    }

    #[test]
    fn options_make_the_header_longer() {
        let frame = Packet::udp("10.0.0.1:1", "10.0.0.2:2").ip_options(&[1, 1, 1, 0]).build();
        assert_eq!(frame[14], 0x46);
        assert!(SlicedPacket::from_ethernet(&frame).is_ok());
    }
}
