use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record};

/// What the zone says to one question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// These records.
    Records {
        /// The answer, in order: aliases before what they lead to.
        answers: Vec<Record>,
        /// Addresses of what the answer names; may be left out where room is short.
        additionals: Vec<Record>,
        /// An alias led out of the cluster: whoever has an upstream continues there.
        onward: Option<Name>,
    },
    /// No records. `NoError`: the name exists, with records of other types or with names below
    /// it. `NXDomain`: neither the name nor anything below it exists.
    Negative {
        /// `NoError` or `NXDomain`.
        code: ResponseCode,
        /// Aliases that led here.
        answers: Vec<Record>,
        /// The zone's SOA, which says for how long this may be remembered.
        authority: Box<Record>,
    },
    /// Not a name of this cluster.
    Elsewhere,
    /// The cluster is not known yet.
    NotReady,
}
