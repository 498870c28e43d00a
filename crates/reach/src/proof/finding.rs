use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// Something about a node that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// What is wrong, in one sentence.
    pub what: String,
    /// The packet that shows it, where a packet does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<Packet>,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Rows that decide who may connect to whom.
    Policy,
    /// A connection whose verdict is cached.
    Flow,
    /// What a Service's address leads to.
    Service,
    /// A pod's link.
    Endpoint,
    /// Under which hardware address somebody is known.
    Neighbour,
    /// A route, of the data plane or of the kernel.
    Route,
    /// A sysctl or a rule of nftables.
    Setting,
    /// A program that is not attached where it should be.
    Hook,
}

/// A packet that is decided differently from what the model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Packet {
    /// Its source.
    pub from: IpAddr,
    /// Its destination, after Service translation.
    pub to: IpAddr,
    /// `TCP`, `UDP`, `SCTP` or `other`.
    pub protocol: String,
    /// A destination port; 0 where there is none.
    pub port: u16,
    /// All ports for which it is the same.
    pub ports: String,
    /// Which side's policy is asked.
    pub direction: String,
    /// What the model says.
    pub expected: Verdict,
    /// What the kernel's rows say.
    pub loaded: Verdict,
}

/// A verdict and what it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether the packet passes.
    pub allowed: bool,
    /// The rule, or the row that is missing.
    pub by: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Policy => "policy",
            Subject::Flow => "flow",
            Subject::Service => "service",
            Subject::Endpoint => "endpoint",
            Subject::Neighbour => "neighbour",
            Subject::Route => "route",
            Subject::Setting => "setting",
            Subject::Hook => "hook",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)?;
        self.packet.as_ref().map_or(Ok(()), |packet| write!(f, "\n{packet}"))
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, protocol, port, ports, direction, expected, loaded } = self;
        write!(f, "    packet    {from} -> {to}, {protocol}")?;
        if *port != 0 || ports != "0" {
            write!(f, " port {port} (the same for {ports})")?;
        }
        write!(f, ", judged at {direction}\n    expected  {expected}\n    loaded    {loaded}")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.allowed { "allowed" } else { "refused" }, self.by)
    }
}
