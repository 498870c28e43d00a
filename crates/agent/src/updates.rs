use std::future::Future;

use kilter_cluster::{Feed, Update};
use kilter_model::{Change, Cluster};
use tokio::sync::mpsc;

/// Where the agent learns what the cluster is: the API's watches, or a test.
pub trait Updates: Send + 'static {
    /// Everything that has happened since the last call, waiting for something to; `None` when
    /// nothing will happen any more. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Update>>> + Send;

    /// Who else is to know what the cluster is, without a copy of his own.
    fn follower(&self) -> Follower {
        Box::new(|_, _| {})
    }
}

/// Is told of all changes once every watch has synced, with the cluster after them; first of all that there is, as
/// changes. It is called on the thread that decides, after the rows have been written: it must be quick.
pub type Follower = Box<dyn FnMut(&Cluster, &[Change]) + Send>;

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
