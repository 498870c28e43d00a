mod ip;

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, TcpHeader, UdpHeader,
};

use ip::Ip;

/// An Ethernet frame with an IP packet, built field by field, checksums right. The addresses say of
/// which version.
///
/// ```
/// let syn = kilter_testkit::Packet::tcp("10.0.0.1:40000", "10.0.0.2:80").syn().build();
/// assert_eq!(syn.len(), 14 + 20 + 20);
/// ```
#[derive(Debug, Clone)]
pub struct Packet {
    link: Ethernet2Header,
    ip: Ip,
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
    /// Type, code, and the four bytes after the checksum.
    Icmp(u8, u8, [u8; 4]),
    /// The payload is all there is: other protocols and later fragments.
    None,
}

impl Packet {
    /// A TCP segment without flags. Addresses are `ADDRESS:PORT`.
    #[track_caller]
    pub fn tcp(from: &str, to: &str) -> Self {
        let (from, to) = (socket(from), socket(to));
        let header = TcpHeader::new(from.port(), to.port(), 1, 64_240);
        Self::new(from.ip(), to.ip(), IpNumber::TCP, Transport::Tcp(Box::new(header)))
    }

    /// A UDP datagram. Addresses are `ADDRESS:PORT`.
    #[track_caller]
    pub fn udp(from: &str, to: &str) -> Self {
        let (from, to) = (socket(from), socket(to));
        let transport = Transport::Udp { source: from.port(), destination: to.port() };
        Self::new(from.ip(), to.ip(), IpNumber::UDP, transport)
    }

    /// An ICMP echo request with identifier `id`.
    #[track_caller]
    pub fn echo_request(from: &str, to: &str, id: u16) -> Self {
        Self::icmp(address(from), address(to), (8, 128), 0, echo(id))
    }

    /// An ICMP echo reply with identifier `id`.
    #[track_caller]
    pub fn echo_reply(from: &str, to: &str, id: u16) -> Self {
        Self::icmp(address(from), address(to), (0, 129), 0, echo(id))
    }

    /// ICMP "fragmentation needed", or "packet too big", from `from` to the sender of `about`, which
    /// it quotes as shortly as is allowed (header and eight bytes, RFC 792).
    #[track_caller]
    pub fn too_big(from: &str, about: &Self, mtu: u16) -> Self {
        let frame = about.build();
        let quote = &frame[Ethernet2Header::LEN..];
        let header = quote.len() - about.transport_length() - about.payload.len();
        let [high, low] = mtu.to_be_bytes();
        let code = if about.ip.source().is_ipv4() { 4 } else { 0 };
        let error = Self::icmp(address(from), about.ip.source(), (3, 2), code, [0, 0, high, low]);
        error.payload(&quote[..quote.len().min(header + 8)])
    }

    /// Any other protocol, by number.
    #[track_caller]
    pub fn other(from: &str, to: &str, protocol: u8) -> Self {
        Self::new(address(from), address(to), IpNumber(protocol), Transport::None)
    }

    /// `kinds`: the type for IPv4 and for IPv6.
    #[track_caller]
    fn icmp(from: IpAddr, to: IpAddr, kinds: (u8, u8), code: u8, rest: [u8; 4]) -> Self {
        let (protocol, kind) =
            if to.is_ipv4() { (IpNumber::ICMP, kinds.0) } else { (IpNumber::IPV6_ICMP, kinds.1) };
        Self::new(from, to, protocol, Transport::Icmp(kind, code, rest))
    }

    #[track_caller]
    fn new(from: IpAddr, to: IpAddr, protocol: IpNumber, transport: Transport) -> Self {
        let ip = Ip::new(from, to, protocol);
        let link = Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ether_type: ip.ether_type(),
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

    /// The time to live, or hop limit (64 when not set).
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ip.set_ttl(ttl);
        self
    }

    /// IPv4 options; a multiple of four bytes, at most forty.
    #[track_caller]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        let Ip::V4(header) = &mut self.ip else { panic!("IPv6 has extension headers instead") };
        header.options = options.try_into().expect("options of 0 to 40 bytes, in words of four");
        self
    }

    /// One more IPv6 extension header, after those before: its number, and all of it but the first
    /// byte, which names the header after it.
    #[track_caller]
    pub fn extension(mut self, number: u8, content: &[u8]) -> Self {
        self.ip.add_extension(number, content);
        self
    }

    /// Makes it fragment number one: more follow, offset 0.
    #[track_caller]
    pub fn first_fragment(mut self, id: u32) -> Self {
        self.ip.set_fragment(id, 0, true);
        self
    }

    /// Makes it a later fragment at `offset` (in units of eight bytes): ports are not in it.
    #[track_caller]
    pub fn later_fragment(mut self, id: u32, offset: u16, more: bool) -> Self {
        self.ip.set_fragment(id, offset, more);
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
        let transport = match &self.ip {
            Ip::V4(header) => self.transport4(header.source, header.destination),
            Ip::V6(v6) => self.transport6(v6.header.source, v6.header.destination),
        };
        let ip = self.ip.build(transport.len() + self.payload.len());
        [&self.link.to_bytes()[..], &ip, &transport, &self.payload].concat()
    }

    fn transport_length(&self) -> usize {
        self.transport6([0; 16], [0; 16]).len()
    }

    fn transport4(&self, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let payload = &self.payload;
        match &self.transport {
            Transport::Tcp(header) => {
                let mut header = (**header).clone();
                header.checksum = header.calc_checksum_ipv4_raw(from, to, payload).expect(SHORT);
                header.to_bytes().to_vec()
            }
            Transport::Udp { source, destination } => {
                let mut header = udp_header(*source, *destination, payload);
                header.checksum = header.calc_checksum_ipv4_raw(from, to, payload).expect(SHORT);
                header.to_bytes().to_vec()
            }
            &Transport::Icmp(type_u8, code_u8, bytes5to8) => {
                let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
                Icmpv4Header::with_checksum(kind, payload).to_bytes().to_vec()
            }
            Transport::None => Vec::new(),
        }
    }

    fn transport6(&self, from: [u8; 16], to: [u8; 16]) -> Vec<u8> {
        let payload = &self.payload;
        match &self.transport {
            Transport::Tcp(header) => {
                let mut header = (**header).clone();
                header.checksum = header.calc_checksum_ipv6_raw(from, to, payload).expect(SHORT);
                header.to_bytes().to_vec()
            }
            Transport::Udp { source, destination } => {
                let mut header = udp_header(*source, *destination, payload);
                header.checksum = header.calc_checksum_ipv6_raw(from, to, payload).expect(SHORT);
                header.to_bytes().to_vec()
            }
            &Transport::Icmp(type_u8, code_u8, bytes5to8) => {
                let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
                Icmpv6Header::with_checksum(kind, from, to, payload).expect(SHORT).to_bytes().to_vec()
            }
            Transport::None => Vec::new(),
        }
    }
}

const SHORT: &str = "a payload of at most 65,535 bytes";

fn udp_header(source_port: u16, destination_port: u16, payload: &[u8]) -> UdpHeader {
    let length = (UdpHeader::LEN + payload.len()).try_into().expect(SHORT);
    UdpHeader { source_port, destination_port, length, checksum: 0 }
}

/// Identifier and sequence number of an echo.
fn echo(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [high, low, 0, 1]
}

#[track_caller]
fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("`{text}` is not ADDRESS:PORT: {error}"))
}

#[track_caller]
fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("`{text}` is not an address: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4Header, Ipv6Header, NetSlice, SlicedPacket, TransportSlice};

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
        let frame = Packet::too_big("10.0.0.254", &cause, 1_400).build();
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
    #[test]
    fn the_same_over_ipv6_with_extensions_and_right_checksums() {
        let packet = Packet::udp("[fd00::1]:5000", "[fd00::2]:53").payload([7; 32]);
        let frame = packet.clone().extension(0, &[0, 1, 4, 0, 0, 0, 0]).first_fragment(70_000).build();
        let ip = Ipv6Header::from_slice(&frame[14..]).unwrap().0;
        assert_eq!((ip.next_header, usize::from(ip.payload_length)), (IpNumber(0), frame.len() - 14 - 40));
        assert_eq!((frame[54], frame[62], &frame[66..70]), (44, 17, &70_000u32.to_be_bytes()[..]));

        let whole = packet.build();
        let sliced = SlicedPacket::from_ethernet(&whole).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport)
        else {
            panic!("not UDP over IPv6")
        };
        let header = ip.header();
        let wanted = udp.to_header().calc_checksum_ipv6_raw(header.source(), header.destination(), &[7; 32]);
        assert_eq!(udp.checksum(), wanted.unwrap());
        let error = Packet::too_big("fd00::9", &packet, 1_400).build();
        assert_eq!((error[20], error[54], &error[58..62]), (58, 2, &[0, 0, 5, 120][..]));
        assert_eq!(&error[62..], &whole[14..14 + 48]);
    }
}
