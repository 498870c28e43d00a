//! The twin's keys, certificates and tokens, as files only root can read.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use kilter_apiserver::pki::{Certified, Pki, generate, issue};

use crate::paths::Layout;
use crate::spec::{NodePlan, TwinSpec};

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const SERVER: &str = "server.crt";
const SERVER_KEY: &str = "server.key";
const ADMIN_TOKEN: &str = "token.admin";
const NODE_TOKEN: &str = "token.node";

/// Makes a CA, the API's certificate and the tokens.
pub fn create(layout: &Layout, spec: &TwinSpec) -> Result<Pki> {
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let addresses = [spec.api_addresses(), spec.api_service_ips()].concat();
    let addresses = addresses.iter().map(ToString::to_string).chain(["127.0.0.1".to_owned()]);
    let pki = generate(names.into_iter().chain(addresses)).context("make the twin's certificates")?;
    let directory = layout.pki();
    fs::create_dir(&directory)?;
    let files = [
        (CA, &pki.ca_certificate),
        (CA_KEY, &pki.ca_key),
        (SERVER, &pki.server.certificate),
        (SERVER_KEY, &pki.server.key),
        (ADMIN_TOKEN, &pki.admin_token),
        (NODE_TOKEN, &pki.node_token),
    ];
    for (name, text) in files {
        write_private(&directory.join(name), text)?;
    }
    // An authority of their own: what a stand-in shows must mean nothing to whoever trusts the API's.
    let (certificate, key) = kilter_pods::standin::make_authority()?;
    write_private(&layout.stand_in_certificate(), &certificate)?;
    write_private(&layout.stand_in_key(), &key)?;
    Ok(pki)
}

/// Reads what [`create`] made.
pub fn read(layout: &Layout) -> Result<Pki> {
    let text = |name: &str| {
        let path = layout.pki().join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    Ok(Pki {
        ca_certificate: text(CA)?,
        ca_key: text(CA_KEY)?,
        server: Certified { certificate: text(SERVER)?, key: text(SERVER_KEY)? },
        admin_token: text(ADMIN_TOKEN)?,
        node_token: text(NODE_TOKEN)?,
    })
}

/// A certificate for a node's kubelet.
pub fn issue_kubelet(pki: &Pki, node: &NodePlan) -> Result<Certified> {
    let names = std::iter::once(node.name.clone()).chain(node.addresses.iter().map(ToString::to_string));
    issue(&pki.ca_key, &format!("system:node:{}", node.name), names)
        .with_context(|| format!("make the certificate of {}", node.name))
}

/// Writes a file that nobody else on the machine can read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(|| format!("write {}", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}
