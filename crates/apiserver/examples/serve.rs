//! A server on a free loopback port, to try it by hand: prints the path of its kubeconfig.

use std::net::TcpListener;

use kilter_apiserver::{ApiServer, Config, Kubelet, Token, pki};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pki = pki::generate(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let (certificates, key) = pki.server.parse()?;
    let handle = ApiServer::start(Config {
        listeners: vec![TcpListener::bind("127.0.0.1:0")?],
        certificates,
        key,
        tokens: vec![Token { secret: pki.admin_token.clone(), user: "admin".into() }],
        service_cidrs: vec!["10.96.0.0/16".parse()?],
        advertise: "10.240.0.2:6443".parse()?,
        kubelet: Kubelet { ca: None, token: pki.node_token },
        history: Config::HISTORY,
        journal: None,
    })?;
    let path = std::env::temp_dir().join(format!("kilter-apiserver-{}.kubeconfig", std::process::id()));
    let server = format!("https://{}", handle.addresses[0]);
    std::fs::write(&path, pki::kubeconfig(&server, &pki.ca_certificate, &pki.admin_token, "kilter"))?;
    println!("export KUBECONFIG={}", path.display());
    tokio::signal::ctrl_c().await?;
    handle.shutdown().await;
    Ok(std::fs::remove_file(path)?)
}
