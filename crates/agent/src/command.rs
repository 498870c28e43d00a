//! What the engine is asked.

use kilter_cluster::Update;
use kilter_datapath::Event;
use kilter_model::Uid;
use kilter_wire::cni::code;
use kilter_wire::control::{Drop, Flow, NodeStatus};
use kilter_wire::loaded::Loaded;
use tokio::sync::oneshot;

use crate::ipam::Reservation;

/// See [`crate::engine::Engine`].
#[derive(Debug)]
pub enum Command {
    /// The cluster changed.
    Updates(Vec<Update>),
    /// Give a pod an address as soon as policy for it can be judged.
    Reserve(Reserve),
    /// Why a pod has no address yet, in words.
    Explain(Pod, oneshot::Sender<String>),
    /// The container's link exists, down, with this index: attach hooks and load rows.
    Attach(String, u32, oneshot::Sender<Result<(), Refusal>>),
    /// Cut a container off, however far it is. Answers with what is left to do, if anything.
    Detach(String, oneshot::Sender<Result<Option<Leaving>, Refusal>>),
    /// What of a wired container, whose link on the node has this index, the kernel does not hold.
    Inspect(String, u32, oneshot::Sender<Result<Inspected, Refusal>>),
    /// Every container that is wired or was to go.
    List(oneshot::Sender<Vec<Reservation>>),
    /// The links of these containers are gone.
    Release(Vec<String>),
    /// The data plane reported something.
    Events(Vec<Event>),
    /// Some seconds have passed.
    Tick,
    /// Somebody began to follow opened connections.
    Attend,
    /// The connections that are tracked now.
    Flows(oneshot::Sender<Result<Vec<Flow>, String>>),
    /// Refused packets of the recent past.
    RecentDrops(oneshot::Sender<Vec<Drop>>),
    /// How the node is.
    Status(oneshot::Sender<NodeStatus>),
    /// What the kernel holds.
    Loaded(oneshot::Sender<Result<Loaded, String>>),
    /// No more.
    Stop,
}

/// A pod as the runtime names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `K8S_POD_UID`.
    pub uid: Uid,
    /// `K8S_POD_NAMESPACE/K8S_POD_NAME`.
    pub name: String,
}

/// What the runtime wants attached to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// The network's name in the configuration.
    pub network: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// Whose container it is.
    pub pod: Pod,
}

/// See [`Command::Inspect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// What the container was given.
    pub reservation: Reservation,
    /// What is missing, in words.
    pub missing: Vec<String>,
}

/// See [`Command::Reserve`].
#[derive(Debug)]
pub struct Reserve {
    /// For whom.
    pub claim: Claim,
    /// Where the answer goes; the wait ends when nobody listens any more.
    pub reply: oneshot::Sender<Result<Reservation, Refusal>>,
}

/// A container whose link still has to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// The host side of its link.
    pub link: String,
}

/// Why the agent does not do what the plugin asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A code of the specification.
    pub code: u32,
    /// One sentence.
    pub msg: String,
    /// What was underneath.
    pub details: String,
}

impl Refusal {
    /// The runtime should ask again soon.
    pub fn later(msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code: code::TRY_AGAIN_LATER, msg: msg.into(), details: details.into() }
    }

    /// The runtime asks about a container that the agent did not wire.
    pub fn unknown(container: &str) -> Self {
        let msg = format!("container {container} is not wired here");
        Self {
            code: code::UNKNOWN_CONTAINER,
            msg,
            details: "it was never added, or was deleted since".into(),
        }
    }

    /// Asking again does not help by itself.
    pub fn refused(msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code: code::AGENT, msg: msg.into(), details: details.into() }
    }
}

/// An error with everything underneath, for the `details` of a refusal and for logs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
