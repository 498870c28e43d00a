use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kilter_model::Protocol;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, Certificates};
use super::open::{self, Socket};
use super::ports::Port;
use super::behaviour::{Behaviour, Errors};
use super::paced::Pace;
use super::{Identity, tcp, tls, udp};
use crate::logs::Log;

/// What all stand-ins of a node share.
#[derive(Debug, Clone)]
pub struct StandIns {
    authority: Arc<Authority>,
}

impl StandIns {
    /// Stand-ins whose certificates are of this authority.
    pub fn new(authority: Authority) -> Self {
        Self { authority: Arc::new(authority) }
    }

    /// The server of one pod, with no port open yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn pod(&self, identity: Identity, netns: PathBuf, behaviour: Behaviour) -> anyhow::Result<PodServer> {
        let certificates = Certificates::new(self.authority.clone(), identity.addresses.clone());
        Ok(PodServer {
            tls: tls::choosing(Arc::new(certificates))?,
            identity: Arc::new(identity),
            netns,
            behaviour: watch::Sender::new(behaviour),
            pace: Pace::default(),
            open: BTreeMap::new(),
        })
    }
}

/// What a listening task knows.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) identity: Arc<Identity>,
    pub(super) container: Arc<str>,
    pub(super) port: u16,
    pub(super) log: Arc<Log>,
    pub(super) behaviour: watch::Receiver<Behaviour>,
    pub(super) errors: Errors,
    pub(super) pace: Pace,
    pub(super) tls: Arc<rustls::ServerConfig>,
}

impl Serving {
    pub(super) fn behaviour(&self) -> Behaviour {
        *self.behaviour.borrow()
    }

    /// Waits as long as an answer is to take; false when there is to be none.
    pub(super) async fn think(&self) -> bool {
        let Behaviour { delay, error_rate, .. } = self.behaviour();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        !self.errors.next(error_rate)
    }
}

/// The open ports of one pod. They must be closed, by [`PodServer::close`], before the pod's
/// namespace goes: an open socket would keep it.
#[derive(Debug)]
pub struct PodServer {
    identity: Arc<Identity>,
    netns: PathBuf,
    tls: Arc<rustls::ServerConfig>,
    behaviour: watch::Sender<Behaviour>,
    pace: Pace,
    open: BTreeMap<Port, Listening>,
}

#[derive(Debug)]
struct Listening {
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// A port that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("container \"{}\" cannot listen on {}/{} in the pod", port.container, port.number, port.protocol)]
pub struct NotOpened {
    /// Which.
    pub port: Port,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl PodServer {
    /// Makes exactly these ports be open, and no others. Ports that stay are not touched. `log`
    /// gives the log of a container. Returns what could not be opened.
    pub async fn set_ports(
        &mut self,
        wanted: &BTreeSet<Port>,
        log: impl Fn(&str) -> Arc<Log>,
    ) -> anyhow::Result<Vec<NotOpened>> {
        let superfluous: Vec<Port> =
            self.open.keys().filter(|port| !wanted.contains(port)).cloned().collect();
        let mut closing = Vec::new();
        for port in superfluous {
            closing.extend(self.open.remove(&port));
        }
        close(closing).await;
        let missing: Vec<Port> = wanted
            .iter()
            .filter(|port| port.protocol != Protocol::Sctp && !self.open.contains_key(port))
            .cloned()
            .collect();
        self.open_ports(missing, log).await
    }

    async fn open_ports(
        &mut self,
        ports: Vec<Port>,
        log: impl Fn(&str) -> Arc<Log>,
    ) -> anyhow::Result<Vec<NotOpened>> {
        if ports.is_empty() {
            return Ok(Vec::new());
        }
        let families = open::wildcards(&self.identity.addresses);
        let wanted: Vec<(Protocol, SocketAddr)> = ports
            .iter()
            .flat_map(|port| families.iter().map(|ip| (port.protocol, SocketAddr::new(*ip, port.number))))
            .collect();
        let netns = self.netns.clone();
        let mut sockets =
            tokio::task::spawn_blocking(move || open::open(&netns, &wanted)).await??.into_iter();
        let mut failed = Vec::new();
        for port in ports {
            let sockets: io::Result<Vec<Socket>> =
                sockets.by_ref().take(families.len()).collect::<Vec<_>>().into_iter().collect();
            match sockets.and_then(|sockets| self.listen(&port, sockets, log(&port.container))) {
                Ok(listening) => {
                    self.open.insert(port, listening);
                }
                Err(source) => failed.push(NotOpened { port, source }),
            }
        }
        Ok(failed)
    }

    fn listen(&self, port: &Port, sockets: Vec<Socket>, log: Arc<Log>) -> io::Result<Listening> {
        let serving = Arc::new(Serving {
            identity: self.identity.clone(),
            container: port.container.clone(),
            port: port.number,
            log,
            behaviour: self.behaviour.subscribe(),
            errors: Errors::default(),
            pace: self.pace.clone(),
            tls: self.tls.clone(),
        });
        let cancel = CancellationToken::new();
        let mut tasks = Vec::new();
        for socket in sockets {
            let (serving, cancel) = (serving.clone(), cancel.clone());
            tasks.push(match socket {
                Socket::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    tokio::spawn(tcp::serve(listener, serving, cancel))
                }
                Socket::Udp(socket) => {
                    let socket = tokio::net::UdpSocket::from_std(socket)?;
                    tokio::spawn(udp::serve(socket, serving, cancel))
                }
            });
        }
        Ok(Listening { cancel, tasks })
    }

    /// Makes the stand-ins fail or slow, or work again; requests from now on see it.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.behaviour.send_if_modified(|now| std::mem::replace(now, behaviour) != behaviour);
    }

    /// The ports that are open.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.open.keys()
    }

    /// Closes every port and every connection. No socket of this pod is left when it returns.
    pub async fn close(mut self) {
        close(std::mem::take(&mut self.open).into_values().collect()).await;
    }
}

impl Drop for PodServer {
    fn drop(&mut self) {
        for listening in self.open.values() {
            listening.cancel.cancel();
        }
    }
}

async fn close(listening: Vec<Listening>) {
    for one in &listening {
        one.cancel.cancel();
    }
    for task in listening.into_iter().flat_map(|one| one.tasks) {
        // A task that panicked has dropped its sockets as well.
        let _ = task.await;
    }
}
