//! Which kubelet this one behaves like.

/// `status.nodeInfo.kubeletVersion`: the release whose semantics are followed.
pub const KUBELET_VERSION: &str = concat!("v1.37.0+kilter.", env!("CARGO_PKG_VERSION"));

/// How probes introduce themselves.
pub const PROBE_USER_AGENT: &str = "kube-probe/1.37";

/// How lifecycle hooks introduce themselves.
pub const LIFECYCLE_USER_AGENT: &str = "kube-lifecycle/1.37";
