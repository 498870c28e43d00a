//! The control plane of a twin: the embedded API and the controllers, in one process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};
use futures::future::LocalBoxFuture;
use kilter_apiserver::pki::{Pki, certificates, kubeconfig};
use kilter_apiserver::{ApiServer, Config, Kubelet, Token};
use kilter_netns::NetNs;
use tracing::info;

use crate::paths::Layout;
use crate::pki;
use crate::signal::Termination;
use crate::spec::TwinSpec;

/// The port of the API, in the fabric.
pub const API_PORT: u16 = 6443;

/// The sockets of the control plane, opened before any thread is started: one on the machine's
/// loopback for people, one in the fabric for the nodes.
pub struct Sockets {
    host: TcpListener,
    fabric: TcpListener,
}

/// Opens the sockets and leaves the calling thread, and so every later one, in the fabric.
pub fn enter(spec: &TwinSpec) -> Result<Sockets> {
    let layout = Layout::new(&spec.name);
    let host = TcpListener::bind((Ipv4Addr::LOCALHOST, previous_port(&layout).unwrap_or(0)))
        .context("listen on the machine's loopback")?;
    NetNs::open(layout.fabric())?.set()?;
    let fabric = api_socket(spec);
    let fabric = TcpListener::bind(fabric).with_context(|| format!("listen at {fabric} in the fabric"))?;
    Ok(Sockets { host, fabric })
}

/// Where the twin's own processes reach the API.
fn api_socket(spec: &TwinSpec) -> SocketAddr {
    SocketAddr::new(spec.api_addresses()[0], API_PORT)
}

/// The port that people's kubeconfigs name already, after a restart of the control plane.
fn previous_port(layout: &Layout) -> Option<u16> {
    std::fs::read_to_string(port_file(layout)).ok()?.trim().parse().ok()
}

fn port_file(layout: &Layout) -> PathBuf {
    layout.root().join("api.port")
}

/// Serves until the process is told to stop.
pub fn run(spec: &TwinSpec, sockets: Sockets) -> LocalBoxFuture<'_, Result<()>> {
    Box::pin(serve(spec, sockets))
}

async fn serve(spec: &TwinSpec, sockets: Sockets) -> Result<()> {
    let mut termination = Termination::catch()?;
    kilter_cluster::install_crypto();
    let layout = Layout::new(&spec.name);
    let port = sockets.host.local_addr()?.port();
    std::fs::write(port_file(&layout), port.to_string())?;
    let pki = pki::read(&layout)?;
    write_kubeconfigs(&layout, spec, &pki, port)?;
    let server = ApiServer::start(config(spec, sockets, &pki)?)?;
    let client = kilter_cluster::connect(&layout.node_kubeconfig()).await?;
    crate::internet::serve(&layout, spec)?;
    info!(port, "the API serves");
    crate::process::say_ready("control-plane")?;
    let controllers = kilter_controllers::run(client, controllers(spec));
    tokio::select! {
        ended = controllers => ended.context("the controllers ended")?,
        () = server.stopped() => anyhow::bail!("the API server ended"),
        () = termination.wait() => info!("told to stop"),
    }
    Ok(())
}

fn controllers(spec: &TwinSpec) -> kilter_controllers::Config {
    kilter_controllers::Config { load_balancers: spec.lb_pools.clone(), routing: spec.routing, ..Default::default() }
}

fn config(spec: &TwinSpec, sockets: Sockets, pki: &Pki) -> Result<Config> {
    let (certificate_chain, key) = pki.server.parse()?;
    let token = |secret: &str, user: &str| Token { secret: secret.to_owned(), user: user.to_owned() };
    Ok(Config {
        listeners: vec![sockets.host, sockets.fabric],
        certificates: certificate_chain,
        key,
        tokens: vec![token(&pki.admin_token, "admin"), token(&pki.node_token, "system:nodes")],
        service_cidrs: spec.service_cidrs.clone(),
        advertise: api_socket(spec),
        kubelet: Kubelet {
            ca: certificates(&pki.ca_certificate)?.into_iter().next(),
            token: pki.node_token.clone(),
        },
        history: Config::HISTORY,
        journal: Some(Layout::new(&spec.name).journal()),
    })
}

/// One kubeconfig for people on this machine, one for the twin's own processes in the fabric.
fn write_kubeconfigs(layout: &Layout, spec: &TwinSpec, pki: &Pki, port: u16) -> Result<()> {
    let write = |path: PathBuf, server: SocketAddr, token: &str| {
        let text = kubeconfig(&format!("https://{server}"), &pki.ca_certificate, token, &spec.context());
        pki::write_private(&path, &text)
    };
    let fabric = api_socket(spec);
    write(layout.admin_kubeconfig(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &pki.admin_token)?;
    write(layout.node_kubeconfig(), fabric, &pki.node_token)
}
