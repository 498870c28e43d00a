//! Talking to node processes over their control sockets.

use std::path::Path;

use anyhow::{Context, Result, bail};
use kilter_wire::control::{Drop, NodeStatus, Outcome, Probe, Reply, Request};
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

    /// Makes probes, all at once.
    pub async fn probe(&mut self, probes: Vec<Probe>) -> Result<Vec<Outcome>> {
        let asked = probes.len();
        match self.ask(&Request::Probe(probes)).await? {
            Reply::Probed(outcomes) if outcomes.len() == asked => Ok(outcomes),
            other => self.unexpected(&other),
        }
    }

    /// Follows the node's drops until the receiver is dropped. Returns once following has begun.
    pub async fn follow_drops(mut self, to: mpsc::UnboundedSender<Drop>) -> Result<()> {
        match self.ask(&Request::Drops).await? {
            Reply::Following => {}
            other => return self.unexpected(&other),
        }
        tokio::spawn(async move {
            while let Ok(Reply::Drop(drop)) = self.receive().await {
                if to.send(drop).is_err() {
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
