//! Which kubelet this one behaves like.

/// `status.nodeInfo.kubeletVersion`: the release whose semantics are followed.
pub const KUBELET_VERSION: &str = "v1.34.0+kilter";

/// How probes introduce themselves.
pub const PROBE_USER_AGENT: &str = "kube-probe/1.34";
