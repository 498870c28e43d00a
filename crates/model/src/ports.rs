use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The transport protocols that Services and policies speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// IP protocol 6.
    #[serde(rename = "TCP")]
    Tcp,
    /// IP protocol 17.
    #[serde(rename = "UDP")]
    Udp,
    /// IP protocol 132.
    #[serde(rename = "SCTP")]
    Sctp,
}

impl Protocol {
    /// All of them, in the order in which they are listed in answers.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol of an IP protocol number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            132 => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

impl std::str::FromStr for Protocol {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        match s {
            "TCP" => Ok(Protocol::Tcp),
            "UDP" => Ok(Protocol::Udp),
            "SCTP" => Ok(Protocol::Sctp),
            _ => Err(()),
        }
    }
}

/// Ports `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port a packet can carry, 0 included.
    pub const ALL: PortRange = PortRange { first: 0, last: u16::MAX };

    /// A single port.
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether `port` is within.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A set of ports per protocol, kept as sorted, disjoint, non-adjacent ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortSet {
    ranges: BTreeMap<Protocol, Vec<PortRange>>,
}

impl PortSet {
    /// The set of all ports of all protocols.
    pub fn all() -> Self {
        let mut set = Self::default();
        for protocol in Protocol::ALL {
            set.insert(protocol, PortRange::ALL);
        }
        set
    }

    /// Adds a range, merging with what touches it.
    pub fn insert(&mut self, protocol: Protocol, range: PortRange) {
        let ranges = self.ranges.entry(protocol).or_default();
        let mut merged = range;
        ranges.retain(|r| {
            let touches = u32::from(r.first) <= u32::from(merged.last) + 1
                && u32::from(merged.first) <= u32::from(r.last) + 1;
            if touches {
                merged = PortRange { first: merged.first.min(r.first), last: merged.last.max(r.last) };
            }
            !touches
        });
        let at = ranges.partition_point(|r| r.first < merged.first);
        ranges.insert(at, merged);
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether this port of this protocol is in the set.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ranges(protocol).iter().any(|r| r.contains(port))
    }

    /// The ranges of one protocol, sorted and disjoint.
    pub fn ranges(&self, protocol: Protocol) -> &[PortRange] {
        self.ranges.get(&protocol).map_or(&[], Vec::as_slice)
    }

    /// What is in this set and not in the other.
    pub fn difference(&self, other: &PortSet) -> PortSet {
        let mut rest = PortSet::default();
        for protocol in Protocol::ALL {
            for range in self.ranges(protocol) {
                let mut next = u32::from(range.first);
                for hole in other
                    .ranges(protocol)
                    .iter()
                    .filter(|it| it.last >= range.first && it.first <= range.last)
                {
                    if let (Ok(first), Some(last)) = (u16::try_from(next), hole.first.checked_sub(1)) {
                        if first <= last {
                            rest.insert(protocol, PortRange { first, last });
                        }
                    }
                    next = u32::from(hole.last) + 1;
                }
                if let Ok(first) = u16::try_from(next) {
                    if first <= range.last {
                        rest.insert(protocol, PortRange { first, last: range.last });
                    }
                }
            }
        }
        rest
    }

    /// What is in both.
    pub fn intersection(&self, other: &PortSet) -> PortSet {
        let mut both = PortSet::default();
        for protocol in Protocol::ALL {
            for a in self.ranges(protocol) {
                for b in other.ranges(protocol) {
                    let (first, last) = (a.first.max(b.first), a.last.min(b.last));
                    if first <= last {
                        both.insert(protocol, PortRange { first, last });
                    }
                }
            }
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_ranges_merge_and_stay_sorted() {
        let mut set = PortSet::default();
        for (first, last) in [(80, 80), (82, 90), (81, 81), (65535, 65535), (0, 0)] {
            set.insert(Protocol::Tcp, PortRange { first, last });
        }
        let text: Vec<_> = set.ranges(Protocol::Tcp).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["0", "80-90", "65535"]);
    }

    #[test]
    fn the_difference_cuts_holes() {
        let set = |ranges: &[(u16, u16)]| {
            let mut set = PortSet::default();
            for (first, last) in ranges {
                set.insert(Protocol::Tcp, PortRange { first: *first, last: *last });
            }
            set
        };
        let whole = set(&[(0, 65535)]);
        assert_eq!(
            whole.difference(&set(&[(0, 9), (20, 29), (65535, 65535)])),
            set(&[(10, 19), (30, 65534)])
        );
        assert!(whole.difference(&whole).is_empty());
        assert_eq!(set(&[(5, 6)]).difference(&set(&[(1, 5)])), set(&[(6, 6)]));
        assert_eq!(set(&[(5, 6)]).difference(&PortSet::default()), set(&[(5, 6)]));
    }

    #[test]
    fn the_intersection_with_everything_changes_nothing() {
        let mut set = PortSet::default();
        set.insert(Protocol::Udp, PortRange { first: 53, last: 60 });
        assert_eq!(set.intersection(&PortSet::all()), set);
        assert!(set.intersection(&PortSet::default()).is_empty());
    }
}
