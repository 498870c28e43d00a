use std::fmt;

use crate::skel::types::drop_reason;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:ident, $words:literal;)*) => {
        /// Why a packet was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// All of them.
            pub const ALL: &[DropReason] = &[$(DropReason::$name),*];

            pub(crate) fn from_number(number: u32) -> Option<Self> {
                match drop_reason(number) {
                    $(drop_reason::$number => Some(DropReason::$name),)*
                    _ => None,
                }
            }

            pub(crate) fn number(self) -> u32 {
                match self {
                    $(DropReason::$name => drop_reason::$number.0,)*
                }
            }
        }

        impl fmt::Display for DropReason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(DropReason::$name => $words,)*
                })
            }
        }
    };
}

reasons! {
    /// Policy denies it; the event names the rule.
    Policy = DROP_POLICY, "policy";
    /// A policy row is missing: nothing is allowed before the pod's policy is loaded.
    NotLoaded = DROP_NOT_LOADED, "policy not loaded";
    /// The source address is not the sender's own.
    SourceAddress = DROP_SOURCE_ADDRESS, "spoofed source address";
    /// The source MAC address is not the sender's own.
    SourceMac = DROP_SOURCE_MAC, "spoofed source MAC";
    /// Neither IP to the gateway nor a question for its MAC address.
    Link = DROP_LINK, "not IP to the gateway";
    /// Headers that contradict themselves, or end too early.
    Malformed = DROP_MALFORMED, "malformed";
    /// A multicast, broadcast or void destination.
    NotUnicast = DROP_NOT_UNICAST, "not unicast";
    /// A Service address that was not translated: not through a socket of this node, or not TCP or UDP.
    NoService = DROP_NO_SERVICE, "no such service port";
    /// An address in this node's pod block that no pod has.
    NoEndpoint = DROP_NO_ENDPOINT, "no endpoint";
    /// An address in a pod block of the cluster that no route leads to.
    NoRoute = DROP_NO_ROUTE, "no route";
    /// Only a known connection could admit it, and there is none. The event names the rule that
    /// forbids a new one.
    NoFlow = DROP_NO_FLOW, "no connection";
    /// It belongs to a known connection, but did not come from there.
    WrongPath = DROP_WRONG_PATH, "wrong path";
    /// A fragment whose first one is not known.
    Fragment = DROP_FRAGMENT, "unknown fragment";
    /// The flow table is full.
    FlowsFull = DROP_FLOWS_FULL, "flow table full";
    /// The pod has caused more flows than one pod may.
    Quota = DROP_QUOTA, "flow quota of the pod";
    /// The connection was allowed when it was opened, and is not any more.
    Revoked = DROP_REVOKED, "policy ended the connection";
    /// The Service has no endpoint that may serve this client here.
    NoBackend = DROP_NO_BACKEND, "no endpoint of the Service";
    /// Every source port that a translated connection could have is taken.
    NatPorts = DROP_NAT_PORTS, "no source port left";
    /// The client is in none of the Service's source ranges.
    SourceRange = DROP_SOURCE_RANGE, "not in the Service's source ranges";
    /// Through the tunnel from another than the node of its source; or past the tunnel from whom it
    /// leads to.
    Tunnel = DROP_TUNNEL, "not from its source's node";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_programs_has_a_reason() {
        let numbers: Vec<u32> = DropReason::ALL.iter().map(|reason| reason.number()).collect();
        assert_eq!(numbers, (1..drop_reason::DROP_REASONS.0).collect::<Vec<_>>());
        assert!(DropReason::ALL.iter().all(|r| DropReason::from_number(r.number()) == Some(*r)));
        assert_eq!(DropReason::from_number(0), None);
    }
}
