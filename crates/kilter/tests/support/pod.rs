//! Sockets inside the pods of a twin, and connections that never rest.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kilter_netns::NetNs;
use serde_json::Value;

use super::Twin;

/// Between two exchanges, and between two looks at whether to stop: many connections share the machine.
const PAUSE: Duration = Duration::from_millis(2);
/// So many datagrams without an answer are sent at once; after that few, because what fills the
/// socket of a server that does not get to run is lost, and that is nobody's fault.
const WINDOW: usize = 32;
const FEW: Duration = Duration::from_millis(20);
/// How long a read waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A running pod's network namespace.
pub struct InPod {
    netns: NetNs,
    pub address: IpAddr,
}

impl Twin {
    /// Enters the pod of this name; panics where it has no sandbox.
    pub fn pod(&self, namespace: &str, name: &str) -> InPod {
        let nodes = Path::new("/run/kilter").join(&self.name).join("nodes");
        let pods = std::fs::read_dir(nodes).unwrap().map(|node| node.unwrap().path().join("pods"));
        let records = pods.flat_map(|pods| std::fs::read_dir(pods).into_iter().flatten().flatten());
        for record in records.filter_map(|pod| std::fs::read(pod.path().join("sandbox.json")).ok()) {
            let record: Value = serde_json::from_slice(&record).unwrap();
            if (record["namespace"].as_str(), record["name"].as_str()) == (Some(namespace), Some(name)) {
                return InPod {
                    netns: NetNs::open(format!("/proc/{}/ns/net", record["pid"])).unwrap(),
                    address: record["addresses"][0].as_str().unwrap().parse().unwrap(),
                };
            }
        }
        panic!("no sandbox of {namespace}/{name}");
    }
}

impl InPod {
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).unwrap()
    }

    /// Opens a TCP connection to another pod, which listens for it, and keeps it busy.
    pub fn tcp(&self, to: &InPod, port: u16, patience: Duration) -> io::Result<Tcp> {
        let at = SocketAddr::new(to.address, port);
        let listener = to.run(|| TcpListener::bind(at))?;
        let client = self.run(|| TcpStream::connect_timeout(&at, patience))?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(LOOK))?;
            end.set_nodelay(true)?;
        }
        Ok(Tcp::start(client, server))
    }

    /// Sends datagrams to another pod, which answers them, without rest.
    pub fn udp(&self, to: &InPod, port: u16) -> io::Result<Udp> {
        let server = to.run(|| UdpSocket::bind((to.address, port)))?;
        let client = self.run(|| UdpSocket::bind((self.address, 0)))?;
        client.connect((to.address, port))?;
        server.set_read_timeout(Some(LOOK))?;
        client.set_read_timeout(Some(PAUSE))?;
        Ok(Udp::start(client, server))
    }
}

/// Threads that work until this is dropped.
struct Work {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Work {
    fn new() -> Self {
        Self { stop: Arc::default(), threads: Vec::new() }
    }

    fn start(&mut self, work: impl FnOnce(&AtomicBool) + Send + 'static) {
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || work(&stop)));
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How one end of a TCP connection ended.
type End = Arc<Mutex<Option<(Instant, ErrorKind)>>>;

/// A TCP connection whose bytes are counted and sent back.
pub struct Tcp {
    _work: Work,
    /// Bytes that came back.
    echoed: Arc<AtomicU64>,
    ends: [End; 2],
}

impl Tcp {
    fn start(client: TcpStream, server: TcpStream) -> Self {
        let (echoed, ends) = (Arc::<AtomicU64>::default(), [End::default(), End::default()]);
        let mut work = Work::new();
        let (count, end) = (echoed.clone(), ends[0].clone());
        work.start(move |stop| until_it_ends(stop, &end, || ask(&client, stop, &count)));
        let end = ends[1].clone();
        work.start(move |stop| until_it_ends(stop, &end, || answer(&server, stop)));
        Self { _work: work, echoed, ends }
    }

    /// Bytes that have come back.
    pub fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Relaxed)
    }

    /// How client and server have ended, and the later time, once both have.
    pub fn ended(&self) -> Option<(Instant, [ErrorKind; 2])> {
        let (client, server) = (*self.ends[0].lock().unwrap(), *self.ends[1].lock().unwrap());
        let (client, server) = (client?, server?);
        Some((client.0.max(server.0), [client.1, server.1]))
    }

    /// Whether any end has ended.
    pub fn is_disturbed(&self) -> bool {
        self.ends.iter().any(|end| end.lock().unwrap().is_some())
    }
}

fn until_it_ends(stop: &AtomicBool, end: &End, mut exchange: impl FnMut() -> io::Result<()>) {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = exchange() {
            *end.lock().unwrap() = Some((Instant::now(), error.kind()));
            return;
        }
    }
}

fn ask(mut client: &TcpStream, stop: &AtomicBool, echoed: &AtomicU64) -> io::Result<()> {
    const PING: [u8; 64] = [7; 64];
    client.write_all(&PING)?;
    let read = read(client, stop, PING.len())?;
    echoed.fetch_add(read as u64, Ordering::Relaxed);
    std::thread::sleep(PAUSE);
    Ok(())
}

fn answer(mut server: &TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let read = read(server, stop, 64)?;
    server.write_all(&vec![7; read])
}

/// Reads so many bytes, however long that takes; fewer when it is to stop.
fn read(mut end: &TcpStream, stop: &AtomicBool, wanted: usize) -> io::Result<usize> {
    let mut buffer = [0; 64];
    let mut all = 0;
    while all < wanted && !stop.load(Ordering::Relaxed) {
        match end.read(&mut buffer[all..wanted]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(some) => all += some,
            Err(error) if is_silence(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Numbered datagrams and their answers.
pub struct Udp {
    work: Work,
    sent: Arc<AtomicU64>,
    /// Numbers that nobody has answered yet, and when each was sent.
    open: Arc<Mutex<BTreeMap<u64, Instant>>>,
    /// When the last answer came.
    answered: Arc<Mutex<Instant>>,
}

impl Udp {
    fn start(client: UdpSocket, server: UdpSocket) -> Self {
        let (sent, open) = (Arc::<AtomicU64>::default(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        let answered = Arc::new(Mutex::new(Instant::now()));
        let mut work = Work::new();
        work.start(move |stop| {
            let mut buffer = [0; 8];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = server.recv_from(&mut buffer) {
                    let _ = server.send_to(&buffer[..length], from);
                }
            }
        });
        let mut udp = Self { work, sent, open, answered };
        let (sent, open, answered) = (udp.sent.clone(), udp.open.clone(), udp.answered.clone());
        udp.work.start(move |stop| {
            let mut buffer = [0; 8];
            while !stop.load(Ordering::Relaxed) {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                open.lock().unwrap().insert(number, Instant::now());
                let _ = client.send(&number.to_be_bytes());
                while let Ok(8) = client.recv(&mut buffer) {
                    open.lock().unwrap().remove(&u64::from_be_bytes(buffer));
                    *answered.lock().unwrap() = Instant::now();
                }
                if open.lock().unwrap().len() > WINDOW {
                    std::thread::sleep(FEW);
                }
            }
        });
        udp
    }

    /// How many have been sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether each of the first `count` has been answered, those of another time excepted.
    pub fn all_answered(&self, count: u64, from: u64) -> bool {
        self.open.lock().unwrap().range(from..count.max(from)).next().is_none()
    }

    /// The last answer, if nothing has been heard for so long since.
    pub fn silent_since(&self, long: Duration) -> Option<Instant> {
        let last = *self.answered.lock().unwrap();
        (last.elapsed() > long).then_some(last)
    }
}
