//! Network policy: who may open a connection to whom, and the rows that let a kernel decide it.
//!
//! Two evaluators stand side by side. [`naive`] asks the rules directly, for one connection, and is
//! written to be obviously right. [`Compiler`] turns the rules that matter to one node into
//! [`Tables`] of logical rows and keeps them up to date; `datapath` encodes the rows, `reach`
//! interprets them. That both agree is what the tests of `reach` prove.
//!
//! Semantics are those of `networking.k8s.io/v1` NetworkPolicy and `policy.networking.k8s.io/v1alpha2`
//! ClusterNetworkPolicy. Pure: no I/O, no clock.

#![forbid(unsafe_code)]

mod adopt;
mod compiler;
mod partition;
mod plan;
mod pod_peers;
mod pods;
mod posture;
mod reason;
mod rules;
mod shelf;
mod tables;
mod transition;
mod vocabulary;
mod words;

pub mod naive;

/// What the compiler is made of, for questions over a whole cluster: the same code that makes rows
/// for a node answers them.
pub mod parts {
    pub use crate::partition::{Partition, Region};
    pub use crate::pods::GroupKey;
    pub use crate::posture::{Numbers, Policies, Posture, compile};
    pub use crate::rules::{Kind, Rules, Traits};
    pub use crate::vocabulary::{NameId, PeerId, PeerKey, Vocabulary};
    pub use crate::words::{GroupTraits, Words};
}

pub use compiler::{Compiler, Config};
pub use plan::{Plan, Write};
pub use reason::{Missed, NearestMiss, Reason};
pub use tables::{
    ClassId, Decision, DecisionSet, Interval, PostureId, ProtocolClass, RuleId, SetId, Tables, Verdict,
};
