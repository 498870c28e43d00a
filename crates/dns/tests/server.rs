//! The server on real sockets, in a network namespace of the test's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use kilter_dns::{Config, Identity, Server, Sockets, Upstream, Zone, serve};
use kilter_model::{
    Cluster, Endpoint, EndpointPort, EndpointSlice, Event, NamespacedName, Origin, Protocol, Service,
    ServiceType,
};
use kilter_netns::NetNs;
use kilter_testkit::TestNetNs;
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn service(name: &str, headless: bool, external: Option<&str>) -> Event {
    Event::Service(Service {
        name: NamespacedName::new("shop", name),
        service_type: if external.is_some() { ServiceType::ExternalName } else { ServiceType::ClusterIp },
        selector: None,
        cluster_ips: if headless { vec![] } else { vec!["10.96.0.7".parse().unwrap()] },
        headless,
        ports: vec![],
        families: vec![],
        locality: Default::default(),
        exposure: Default::default(),
        retry_refused: None,
        forwarding: Default::default(),
        publish_not_ready: false,
        distribution: Default::default(),
        affinity: None,
        external_name: external.map(Arc::from),
        origin: Origin::Builtin,
    })
}

/// A zone with `web`, the alias `pay` and `big`, headless with a hundred endpoints.
fn zone() -> Zone {
    let endpoint = |i: u8| Endpoint {
        address: [10, 244, 0, i].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        pod: None,
        zone: None,
        hints: Default::default(),
        hostname: None,
    };
    let slice = EndpointSlice {
        name: NamespacedName::new("shop", "big-1"),
        service: NamespacedName::new("shop", "big"),
        ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }],
        endpoints: (1..=100).map(endpoint).collect(),
    };
    let zone = Zone::new(Config::default()).unwrap();
    zone.replace(&Cluster::from_events([
        service("web", false, None),
        service("big", true, None),
        service("pay", false, Some("pay.example.com")),
        Event::EndpointSlice(slice),
    ]));
    zone
}

fn identity() -> Identity {
    Identity { strings: vec!["kube-system/dns-1".into(), "u-1".into()] }
}

/// A server in a namespace of its own, and the namespace.
fn start(upstream: impl FnOnce(Arc<NetNs>) -> Option<Upstream>) -> (TestNetNs, Server) {
    let test = TestNetNs::new("dns");
    let netns = Arc::new(NetNs::open(test.path()).unwrap());
    let sockets = Sockets::open(&netns, "127.0.0.1:0".parse().unwrap()).unwrap();
    (test, serve(sockets, zone(), upstream(netns), identity()).unwrap())
}

/// Runs `work` in the namespace.
fn inside<T: Send>(netns: &TestNetNs, work: impl FnOnce() -> T + Send) -> T {
    netns.run(work).unwrap()
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Sends bytes from inside the namespace and returns the answer's.
fn exchange_udp(netns: &TestNetNs, server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    inside(netns, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(bytes, server).unwrap();
        let mut buffer = vec![0; 65_535];
        let (length, from) = socket.recv_from(&mut buffer).expect("no answer");
        assert_eq!(from, server);
        buffer.truncate(length);
        buffer
    })
}

fn ask_udp(netns: &TestNetNs, server: SocketAddr, query: &Message) -> Message {
    let answer = Message::from_vec(&exchange_udp(netns, server, &query.to_vec().unwrap())).unwrap();
    assert_eq!((answer.metadata.id, &answer.queries), (query.metadata.id, &query.queries));
    answer
}

/// Several queries over one connection.
fn ask_tcp(netns: &TestNetNs, server: SocketAddr, queries: &[Message]) -> Vec<Message> {
    inside(netns, || {
        let mut connection = TcpStream::connect(server).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        for query in queries {
            let bytes = query.to_vec().unwrap();
            connection.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
            connection.write_all(&bytes).unwrap();
        }
        let next = |_| {
            let mut length = [0; 2];
            connection.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            connection.read_exact(&mut bytes).unwrap();
            Message::from_vec(&bytes).unwrap()
        };
        queries.iter().map(next).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn both_transports_answer() {
    let (netns, server) = start(|_| None);
    let ask = query("web.shop.svc.cluster.local.", RecordType::A);
    let answer = ask_udp(&netns, server.address(), &ask);
    assert!(answer.metadata.authoritative && !answer.metadata.truncation);
    assert_eq!(answer.answers[0].data.to_string(), "10.96.0.7");
    let answers =
        ask_tcp(&netns, server.address(), &[ask.clone(), query("x.shop.svc.cluster.local.", RecordType::A)]);
    assert_eq!(answers[0].answers, answer.answers);
    assert_eq!(answers[1].metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(answers[1].authorities[0].record_type(), RecordType::SOA);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_truncated_and_whole_over_tcp() {
    let (netns, server) = start(|_| None);
    let mut ask = query("big.shop.svc.cluster.local.", RecordType::A);
    let answer = ask_udp(&netns, server.address(), &ask);
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    ask.set_edns(edns);
    let bytes = exchange_udp(&netns, server.address(), &ask.to_vec().unwrap());
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(answer.metadata.truncation && bytes.len() <= 1232, "100 addresses take more than 1232 bytes");
    assert_eq!(answer.edns.map(|e| e.max_payload()), Some(1232));
    assert_eq!(ask_tcp(&netns, server.address(), &[ask])[0].answers.len(), 100);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_upstream_other_names_are_refused_and_an_alias_stands_alone() {
    let (netns, server) = start(|_| None);
    let answer = ask_udp(&netns, server.address(), &query("example.com.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    let answer = ask_udp(&netns, server.address(), &query("pay.shop.svc.cluster.local.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(answer.answers.len(), 1);
    server.stop().await;
}

/// Answers one query by datagram from inside the namespace: every name has address 192.0.2.1.
fn fake_upstream(netns: &TestNetNs) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = inside(netns, || UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    let answer_one = move || {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).expect("nothing was forwarded");
        let request = Message::from_vec(&buffer[..length]).unwrap();
        let mut answer = Message::response(request.metadata.id, OpCode::Query);
        let name = request.queries[0].name.clone();
        answer.add_queries(request.queries);
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        // One that does not bear our id must not be believed.
        let mut forged = answer.clone();
        forged.metadata.id ^= 1;
        forged.answers.clear();
        socket.send_to(&forged.to_vec().unwrap(), from).unwrap();
        socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
    };
    (address, std::thread::spawn(answer_one))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_answers_for_the_rest_of_the_world_and_completes_aliases() {
    for (name, expected) in [("example.com.", 1), ("pay.shop.svc.cluster.local.", 2)] {
        let test = TestNetNs::new("dns-up");
        let netns = Arc::new(NetNs::open(test.path()).unwrap());
        let (address, fake) = fake_upstream(&test);
        let sockets = Sockets::open(&netns, "127.0.0.1:0".parse().unwrap()).unwrap();
        let server = serve(sockets, zone(), Some(Upstream::new(vec![address], netns)), identity()).unwrap();
        let answer = ask_udp(&test, server.address(), &query(name, RecordType::A));
        assert_eq!(answer.answers.len(), expected, "{name}");
        assert_eq!(answer.answers[expected - 1].data.to_string(), "192.0.2.1");
        assert!(!answer.metadata.authoritative);
        server.stop().await;
        fake.join().unwrap();
    }
}

/// What a resolver does that has lost its own way up.
fn failing_upstream(netns: &TestNetNs) -> SocketAddr {
    let socket = inside(netns, || UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let mut failure = Message::error_msg(request.metadata.id, OpCode::Query, ResponseCode::ServFail);
            failure.add_queries(request.queries);
            socket.send_to(&failure.to_vec().unwrap(), from).unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_or_is_gone_gives_way_to_the_next() {
    let test = TestNetNs::new("dns-failover");
    let netns = Arc::new(NetNs::open(test.path()).unwrap());
    let failing = failing_upstream(&test);
    // Nobody listens there, and the kernel says so.
    let gone: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for before in [gone, failing] {
        let (address, fake) = fake_upstream(&test);
        let upstream = Upstream::new(vec![before, address], netns.clone());
        let sockets = Sockets::open(&netns, "127.0.0.1:0".parse().unwrap()).unwrap();
        let server = serve(sockets, zone(), Some(upstream), identity()).unwrap();
        let answer = ask_udp(&test, server.address(), &query("example.com.", RecordType::A));
        assert_eq!(answer.answers[0].data.to_string(), "192.0.2.1", "after {before}");
        fake.join().unwrap();
        server.stop().await;
    }
    // Where nobody can, the asker is told what the last one said.
    let upstream = Upstream::new(vec![failing, gone], netns.clone());
    let sockets = Sockets::open(&netns, "127.0.0.1:0".parse().unwrap()).unwrap();
    let server = serve(sockets, zone(), Some(upstream), identity()).unwrap();
    let answer = ask_udp(&test, server.address(), &query("example.com.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_which_it_is() {
    let (netns, server) = start(|_| None);
    let ask = |name: &str, kind| {
        let mut asked = query(name, kind);
        asked.queries[0].set_query_class(DNSClass::CH);
        ask_udp(&netns, server.address(), &asked)
    };
    for name in ["id.server.", "HOSTNAME.bind."] {
        let answer = ask(name, RecordType::TXT);
        assert_eq!(answer.answers.len(), 1, "{name}");
        assert_eq!((answer.answers[0].dns_class, answer.answers[0].ttl), (DNSClass::CH, 0));
        let RData::TXT(text) = &answer.answers[0].data else { panic!("{answer:?}") };
        let strings: Vec<_> = text.txt_data.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect();
        assert_eq!(strings, identity().strings);
    }
    assert_eq!(ask("version.bind.", RecordType::TXT).metadata.response_code, ResponseCode::Refused);
    assert!(ask("id.server.", RecordType::A).answers.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_has_closed_its_sockets() {
    let (netns, server) = start(|_| None);
    let address = server.address();
    server.stop().await;
    inside(&netns, || UdpSocket::bind(address).expect("still bound"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_or_unsupported_is_told_so() {
    let (netns, server) = start(|_| None);
    let code = |bytes: &[u8]| {
        let answer = exchange_udp(&netns, server.address(), bytes);
        assert_eq!(answer[..2], bytes[..2], "the asker's id");
        answer[3] & 0x0f
    };
    let good = query("web.shop.svc.cluster.local.", RecordType::A);
    let bytes = good.to_vec().unwrap();
    assert_eq!(code(&bytes[..bytes.len() - 3]), 1, "cut short: FORMERR");
    let mut two = good.clone();
    two.add_query(good.queries[0].clone());
    assert_eq!(code(&two.to_vec().unwrap()), 1, "two questions: FORMERR");
    let mut status = good.clone();
    status.metadata.op_code = OpCode::Status;
    assert_eq!(code(&status.to_vec().unwrap()), 4, "NOTIMP");
    let transfer = query("cluster.local.", RecordType::AXFR);
    assert_eq!(code(&transfer.to_vec().unwrap()), 5, "REFUSED");
    let mut future = good.clone();
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    let answer = ask_udp(&netns, server.address(), &future);
    assert_eq!(u16::from(answer.metadata.response_code), 16, "BADVERS");
    server.stop().await;
}

/// A server for the property tests, which cannot be async.
struct Running {
    netns: TestNetNs,
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (netns, server) = runtime.block_on(async { start(|_| None) });
        Self { netns, server: Some(server), runtime }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

/// Random bytes, and good queries with bytes changed: after each, a good query is still answered.
#[test]
fn nothing_that_arrives_takes_the_server_down() {
    let running = Running::new();
    let address = running.server.as_ref().unwrap().address();
    let good = query("_http._tcp.big.shop.svc.cluster.local.", RecordType::SRV).to_vec().unwrap();
    let mutated = proptest::collection::vec((0..good.len(), any::<u8>()), 1..6).prop_map(move |changes| {
        let mut bytes = good.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    });
    let bytes = prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), mutated];
    let socket = inside(&running.netns, || UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
    runner
        .run(&bytes, |bytes| {
            socket.send_to(&bytes, address).unwrap();
            let answer =
                ask_udp(&running.netns, address, &query("web.shop.svc.cluster.local.", RecordType::A));
            prop_assert_eq!(answer.answers.len(), 1);
            Ok(())
        })
        .unwrap();
}
