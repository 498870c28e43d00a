use std::future::Future;

use kilter_cluster::{Feed, Update};
use tokio::sync::mpsc;

/// Where the agent learns what the cluster is: the API's watches, or a test.
pub trait Updates: Send + 'static {
    /// Everything that has happened since the last call, waiting for something to; `None` when
    /// nothing will happen any more. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Update>>> + Send;
}

impl Updates for Feed {
    async fn next(&mut self) -> Option<Vec<Update>> {
        Feed::next(self).await
    }
}

impl Updates for mpsc::Receiver<Vec<Update>> {
    async fn next(&mut self) -> Option<Vec<Update>> {
        self.recv().await
    }
}
