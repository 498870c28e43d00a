//! Talking to node processes over their control sockets.

use std::path::Path;

use anyhow::{Context, Result, bail};
use kilter_wire::control::{Drop, Flow, NodeStatus, Opened, Outcome, Probe, Reply, Request};
use kilter_wire::loaded::Loaded;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A connection to one node process.
pub struct NodeClient {
    stream: BufReader<UnixStream>,
    node: String,
}

impl NodeClient {
    /// Connects to the control socket of a node.
    pub async fn connect(node: &str, socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("{node} does not answer at {}; see `kilter status`", socket.display()))?;
        Ok(Self { stream: BufReader::new(stream), node: node.to_owned() })
    }

    /// How the node is.
    pub async fn status(&mut self) -> Result<NodeStatus> {
        match self.ask(&Request::Status).await? {
            Reply::Status(status) => Ok(*status),
            other => self.unexpected(&other),
        }
    }

    /// What the node's kernel holds.
    pub async fn loaded(&mut self) -> Result<Loaded> {
        match self.ask(&Request::Loaded).await? {
            Reply::Loaded(loaded) => Ok(*loaded),
            other => self.unexpected(&other),
        }
    }

    /// Makes probes, all at once.
    pub async fn probe(&mut self, probes: Vec<Probe>) -> Result<Vec<Outcome>> {
        let asked = probes.len();
        match self.ask(&Request::Probe(probes)).await? {
            Reply::Probed(outcomes) if outcomes.len() == asked => Ok(outcomes),
            other => self.unexpected(&other),
        }
    }

    /// The connections that the node tracks now.
    pub async fn flows(&mut self) -> Result<Vec<Flow>> {
        match self.ask(&Request::Flows).await? {
            Reply::Flows(flows) => Ok(flows),
            other => self.unexpected(&other),
        }
    }

    /// The packets that the node refused in the recent past, oldest first.
    pub async fn recent_drops(&mut self) -> Result<Vec<Drop>> {
        match self.ask(&Request::RecentDrops).await? {
            Reply::RecentDrops(drops) => Ok(drops),
            other => self.unexpected(&other),
        }
    }

    /// Follows the node's drops until the receiver is dropped. Returns once following has begun.
    pub async fn follow_drops<T>(self, to: mpsc::UnboundedSender<T>) -> Result<()>
    where
        T: From<Drop> + Send + 'static,
    {
        self.follow(Request::Drops, to, |reply| match reply {
            Reply::Drop(drop) => Some(drop.into()),
            _ => None,
        })
        .await
    }

    /// Follows the connections that are opened on the node until the receiver is dropped.
    pub async fn follow_opened<T>(self, to: mpsc::UnboundedSender<T>) -> Result<()>
    where
        T: From<Opened> + Send + 'static,
    {
        self.follow(Request::Opened, to, |reply| match reply {
            Reply::Opened(opened) => Some(opened.into()),
            _ => None,
        })
        .await
    }

    async fn follow<T: Send + 'static>(
        mut self,
        request: Request,
        to: mpsc::UnboundedSender<T>,
        wanted: fn(Reply) -> Option<T>,
    ) -> Result<()> {
        match self.ask(&request).await? {
            Reply::Following => {}
            other => return self.unexpected(&other),
        }
        tokio::spawn(async move {
            while let Ok(reply) = self.receive().await {
                let Some(event) = wanted(reply) else { return };
                if to.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.stream.write_all(&kilter_wire::encode(request)?).await?;
        self.receive().await
    }

    async fn receive(&mut self) -> Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            bail!("{} closed its control connection", self.node);
        }
        Ok(kilter_wire::decode(&line)?)
    }

    fn unexpected<T>(&self, reply: &Reply) -> Result<T> {
        match reply {
            Reply::Failed(why) => bail!("{}: {why}", self.node),
            other => bail!("BUG: {} answered {other:?}", self.node),
        }
    }
}
