use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::auth::Tokens;
use crate::kubelet::KubeletClient;
use crate::registry::Registry;

/// What every request handler needs.
pub struct Api {
    /// The objects.
    pub registry: Arc<Registry>,
    /// Who may come in.
    pub tokens: Tokens,
    /// The way to kubelets.
    pub kubelet: KubeletClient,
    /// Ends watches when the server ends.
    pub stop: CancellationToken,
}
