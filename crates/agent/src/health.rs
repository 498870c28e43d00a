//! What load balancers ask each node about Services whose packets it must not pass on to others
//! (`healthCheckNodePort`): an HTTP answer of 200 where it has endpoints, 503 where it has none. Header and body
//! are kube-proxy's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kilter_model::{Change, Cluster, NamespacedName};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A client that asks for more, or more slowly, asks nothing.
const MAX_REQUEST: u64 = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be answered at one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    service: NamespacedName,
    /// Ready endpoints on this node.
    endpoints: usize,
}

/// What is to be answered, by port, and whether the node serves what the cluster says now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    by_port: BTreeMap<u16, Check>,
    healthy: bool,
}

/// Keeps the answers in step with a cluster. A change costs what its Service is worth.
#[derive(Debug)]
pub struct Health {
    node: Arc<str>,
    primed: bool,
    by_service: BTreeMap<NamespacedName, (u16, usize)>,
    answers: watch::Sender<Checks>,
}

impl Health {
    pub fn new(node: Arc<str>, answers: watch::Sender<Checks>) -> Self {
        Self { node, primed: false, by_service: BTreeMap::new(), answers }
    }

    /// Follows the cluster, given what changed since the last call; the first call looks at everything.
    pub fn update(&mut self, cluster: &Cluster, changes: &[Change], healthy: bool) {
        if !self.primed {
            self.primed = true;
            cluster.services().for_each(|service| self.refresh(cluster, &service.name));
        }
        for name in changes.iter().flat_map(Change::services) {
            self.refresh(cluster, name);
        }
        let checks = self.by_service.iter().rev().map(|(service, (port, endpoints))| {
            (*port, Check { service: service.clone(), endpoints: *endpoints })
        });
        let now = Checks { by_port: checks.collect(), healthy };
        self.answers.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    fn refresh(&mut self, cluster: &Cluster, name: &NamespacedName) {
        match cluster.service(name).and_then(|service| service.exposure.health_check_port) {
            Some(port) => drop(self.by_service.insert(name.clone(), (port, self.endpoints(cluster, name)))),
            None => drop(self.by_service.remove(name)),
        }
    }

    fn endpoints(&self, cluster: &Cluster, name: &NamespacedName) -> usize {
        let all = cluster.slices_of(name).flat_map(|slice| &slice.endpoints);
        let here = all.filter(|it| it.ready && it.node.as_ref() == Some(&self.node));
        here.map(|it| it.address).collect::<BTreeSet<IpAddr>>().len()
    }
}

/// Answers at every port for which there is something to answer, until `answers` ends.
pub async fn serve(mut answers: watch::Receiver<Checks>) {
    let mut open: BTreeMap<u16, JoinHandle<()>> = BTreeMap::new();
    loop {
        let ports: BTreeSet<u16> = answers.borrow_and_update().by_port.keys().copied().collect();
        open.retain(|port, task| {
            let stays = ports.contains(port) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for port in ports {
            open.entry(port).or_insert_with(|| tokio::spawn(listen(port, answers.clone())));
        }
        if answers.changed().await.is_err() {
            break;
        }
    }
    open.into_values().for_each(|task| task.abort());
}

/// Ends when the port cannot be listened at; the next change tries again.
async fn listen(port: u16, answers: watch::Receiver<Checks>) {
    // A socket of IPv6 serves IPv4 too.
    let any = [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()];
    let mut bound = TcpListener::bind(SocketAddr::new(any[0], port)).await;
    if bound.is_err() {
        bound = TcpListener::bind(SocketAddr::new(any[1], port)).await;
    }
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(port, %error, "health checks of a load balancer cannot be answered"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let checks = answers.borrow().clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &checks, port)).await;
                });
            }
            Err(error) => {
                tracing::warn!(port, %error, "a health check could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whatever is asked, this is the answer.
async fn answer(mut stream: TcpStream, checks: &Checks, port: u16) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(MAX_REQUEST)).lines();
    while let Some(line) = lines.next_line().await? {
        if line.is_empty() {
            break;
        }
    }
    let Some(check) = checks.by_port.get(&port) else { return Ok(()) };
    write.write_all(response(check, checks.healthy).as_bytes()).await
}

fn response(check: &Check, healthy: bool) -> String {
    let Check { service, endpoints } = check;
    let status = if *endpoints > 0 && healthy { "200 OK" } else { "503 Service Unavailable" };
    let (namespace, name) = (&service.namespace, &service.name);
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {namespace:?},\n\t\t\"name\": {name:?}\n\t}},\n\t\"localEndpoints\": \
         {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {endpoints}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_what_kube_proxy_would_say() {
        let check = |endpoints| Check { service: NamespacedName::new("shop", "web"), endpoints };
        let text = response(&check(2), true);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(head.contains("X-Load-Balancing-Endpoint-Weight: 2"));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let service = serde_json::json!({"namespace": "shop", "name": "web"});
        assert_eq!(body, serde_json::json!({"service": service, "localEndpoints": 2, "serviceProxyHealthy": true}));
        assert!(response(&check(0), true).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(response(&check(2), false).starts_with("HTTP/1.1 503"));
    }
}
