//! Connections made from inside pods, for `verify`: all at once, and each with what became of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use kilter_netns::NetNs;
use kilter_wire::control::{IS, Outcome, Probe, ProbeResult, WHO};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};

/// A socket made inside a pod, bound to the pod's address, so that its port is known whatever
/// becomes of the connection.
enum Socket {
    Tcp(TcpSocket),
    Udp(std::net::UdpSocket),
}

/// Connects from inside a pod's namespace, or any other; outcomes are in the order asked.
///
/// The sockets are made by a thread that has entered the pod's namespace. They are of this
/// process's cgroup, so what its hooks do at connect time happens to them as to the pod's own.
pub async fn from_pod(netns: &Path, addresses: &[IpAddr], probes: Vec<Probe>) -> Vec<Outcome> {
    let wanted: Vec<(bool, SocketAddr)> =
        probes.iter().map(|probe| (probe.protocol == "UDP", local_address(probe.to, addresses))).collect();
    let netns = netns.to_path_buf();
    let made =
        tokio::task::spawn_blocking(move || -> Result<Vec<io::Result<Socket>>, kilter_netns::Error> {
            NetNs::open(&netns)?.run(|| wanted.iter().map(|(udp, local)| make(*udp, *local)).collect())
        });
    let sockets = match made.await {
        Ok(Ok(sockets)) => sockets,
        Ok(Err(error)) => return all_failed(&probes, &crate::error_chain(&error)),
        Err(error) => return all_failed(&probes, &error.to_string()),
    };
    let attempts = probes.iter().zip(sockets).enumerate().map(|(nonce, (probe, socket))| async move {
        match socket {
            Ok(socket) => attempt(probe, socket, nonce).await,
            Err(error) => failed(format!("make a socket in the pod: {error}")),
        }
    });
    futures::future::join_all(attempts).await
}

/// The pod's address of the destination's family, else whatever the kernel chooses.
fn local_address(to: SocketAddr, addresses: &[IpAddr]) -> SocketAddr {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let own = addresses.iter().copied().find(|own| own.is_ipv4() == to.is_ipv4());
    SocketAddr::new(own.unwrap_or(any), 0)
}

fn make(udp: bool, local: SocketAddr) -> io::Result<Socket> {
    if udp {
        let socket = std::net::UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        return Ok(Socket::Udp(socket));
    }
    let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(local)?;
    Ok(Socket::Tcp(socket))
}

async fn attempt(probe: &Probe, socket: Socket, nonce: usize) -> Outcome {
    let local = match &socket {
        Socket::Tcp(socket) => socket.local_addr(),
        Socket::Udp(socket) => socket.local_addr(),
    };
    let started = Instant::now();
    let exchange = async {
        match socket {
            Socket::Tcp(socket) => over_tcp(socket, probe.to, nonce).await,
            Socket::Udp(socket) => over_udp(socket, probe.to, nonce).await,
        }
    };
    let result = match tokio::time::timeout(Duration::from_millis(probe.timeout_ms), exchange).await {
        Ok(Ok(pod)) => ProbeResult::Answered { pod },
        Ok(Err(error)) => refused_or_failed(&error),
        Err(_) => ProbeResult::TimedOut,
    };
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Outcome { local: local.ok(), result, micros }
}

async fn over_tcp(socket: TcpSocket, to: SocketAddr, nonce: usize) -> io::Result<Option<String>> {
    let mut stream = socket.connect(to).await?;
    stream.write_all(format!("{WHO} {nonce}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < 1024 {
        match stream.read_buf(&mut answer).await {
            Ok(0) => break,
            Ok(_) => {}
            // Something listens there that did not like the question; it has answered.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(pod_of(&answer, nonce))
}

async fn over_udp(socket: std::net::UdpSocket, to: SocketAddr, nonce: usize) -> io::Result<Option<String>> {
    let socket = UdpSocket::from_std(socket)?;
    // Connected, so that an ICMP error comes back as one.
    socket.connect(to).await?;
    socket.send(format!("{WHO} {nonce}\n").as_bytes()).await?;
    let mut answer = vec![0; 2048];
    let length = socket.recv(&mut answer).await?;
    Ok(pod_of(&answer[..length], nonce))
}

/// The UID in an answer to `WHO` with this nonce.
fn pod_of(answer: &[u8], nonce: usize) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let (uid, said) = text.trim_end().strip_prefix(IS)?.strip_prefix(' ')?.split_once(' ')?;
    (said == nonce.to_string()).then(|| uid.to_owned())
}

fn refused_or_failed(error: &io::Error) -> ProbeResult {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, PermissionDenied, TimedOut,
    };
    match error.kind() {
        // A reset, an ICMP error, or a hook that found no backend.
        ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe | HostUnreachable
        | NetworkUnreachable | PermissionDenied => ProbeResult::Refused,
        TimedOut => ProbeResult::TimedOut,
        _ => ProbeResult::Failed(error.to_string()),
    }
}

fn failed(why: String) -> Outcome {
    Outcome { local: None, result: ProbeResult::Failed(why), micros: 0 }
}

/// The same failure for every probe.
pub fn all_failed(probes: &[Probe], why: &str) -> Vec<Outcome> {
    probes.iter().map(|_| failed(why.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_ones_own_question_names_a_pod() {
        assert_eq!(pod_of(b"KILTER-IS u-1 7\n", 7), Some("u-1".to_owned()));
        assert_eq!(pod_of(b"KILTER-IS u-1 8\n", 7), None);
        assert_eq!(pod_of(b"HTTP/1.1 400 Bad Request\r\n", 7), None);
        assert_eq!(pod_of(&[0xff, 0xfe], 7), None);
    }
}
