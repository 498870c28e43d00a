use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tokio::time::Instant;

use crate::logs::Log;
use crate::probe::{Fetch, FetchError, Fetcher, HttpGet};
use crate::program::Interior;
use crate::version::LIFECYCLE_USER_AGENT;

/// A hook that nobody waits for any longer has been cancelled by then: the kubelet sets no limit.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// Runs a container's lifecycle hooks (kubernetes `pkg/kubelet/lifecycle`).
#[derive(Debug, Clone)]
pub struct Hooks {
    /// Makes GETs from the node.
    pub(crate) fetcher: Fetcher,
    /// The container, whose named ports hooks may name.
    pub(crate) container: Container,
    /// The pod's address.
    pub(crate) address: IpAddr,
    /// Where a stand-in says what it leaves undone.
    pub(crate) log: Arc<Log>,
}

impl Hooks {
    /// Runs one to its end; `interior` is that of a container that runs for real.
    pub(super) async fn run(&self, hook: &LifecycleHandler, interior: Option<&Interior>) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            return self.exec(exec.command.as_deref().unwrap_or_default(), interior).await;
        }
        if let Some(get) = &hook.http_get {
            return self.get(&HttpGet::new(get, &self.container)).await;
        }
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        Err("invalid handler: a hook has one of exec, httpGet and sleep (tcpSocket is not supported as a hook)".into())
    }

    async fn exec(&self, command: &[String], interior: Option<&Interior>) -> Result<(), String> {
        let Some(interior) = interior else {
            let line = format!("kilter: the hook executes {command:?}, a program of the image; a stand-in does not");
            self.log.print(&line);
            return Ok(());
        };
        match interior.run(command.to_vec(), FOR_EVER).await {
            Ok(ended) if ended.code == 0 => Ok(()),
            Ok(ended) => Err(format!("command {command:?} exited with {}: {}", ended.code, ended.output)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whatever is answered will do: the kubelet does not look at the status.
    async fn get(&self, get: &HttpGet) -> Result<(), String> {
        let fetch =
            Fetch { url: get.url(self.address)?, headers: get.headers.clone(), agent: LIFECYCLE_USER_AGENT };
        match self.fetcher.fetch(&fetch, Instant::now() + FOR_EVER).await {
            Ok(_) | Err(FetchError::Body(_)) => Ok(()),
            Err(error @ FetchError::Failed(..)) => Err(error.to_string()),
        }
    }
}
