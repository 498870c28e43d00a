use std::net::SocketAddr;

use kilter_policy::RuleId;

use crate::Result;
use crate::loader::address;
use crate::maps::Maps;
use crate::skel::types;

/// A live connection, as the node tracks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who opened it; an ICMP echo has its identifier as both ports.
    pub from: SocketAddr,
    /// Towards whom.
    pub to: SocketAddr,
    /// The IP protocol number.
    pub protocol: u8,
    /// Where the opener is.
    pub from_end: End,
    /// Where the other end is.
    pub to_end: End,
    /// The rule of the opener's egress, where it was judged on this node.
    pub egress_rule: Option<RuleId>,
    /// The rule of the other's ingress, where it was judged on this node.
    pub ingress_rule: Option<RuleId>,
    /// Whether both ends have sent.
    pub replied: bool,
    /// Whether policy allows it no longer; the rules then say which one ended it.
    pub revoked: bool,
    /// Whether the next packet is decided by this entry alone: neither end's class or posture has
    /// changed since it was judged.
    pub current: bool,
}

/// Where an end of a flow is, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A pod of this node, behind this interface.
    Pod(u32),
    /// Beyond the uplink.
    Remote,
    /// A socket of this node.
    Node,
    /// Reached through the stack.
    Outside,
}

pub(crate) fn read(maps: &Maps) -> Result<Vec<Flow>> {
    let rows = maps.flows.rows()?;
    rows.iter().map(|(key, flow)| Ok(Flow { current: is_current(maps, flow)?, ..decode(key, flow) })).collect()
}

/// As the programs decide it: both generations are those under which the flow was judged.
fn is_current(maps: &Maps, flow: &types::flow) -> Result<bool> {
    for end in &flow.end {
        if maps.generations.get(&end.slot)? != Some(end.generation) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn decode(key: &types::flow_key, flow: &types::flow) -> Flow {
    let opener = usize::from(flow.opener & 1);
    let other = 1 - opener;
    let socket = |end: usize| SocketAddr::new(address(key.address[end]), u16::from_be(key.port[end]));
    let rule = |direction: types::direction| {
        let rule = flow.rule[direction.0 as usize];
        (rule != 0).then_some(RuleId(rule))
    };
    let state = u32::from(flow.state);
    Flow {
        from: socket(opener),
        to: socket(other),
        protocol: key.protocol,
        from_end: end_of(&flow.end[opener]),
        to_end: end_of(&flow.end[other]),
        egress_rule: rule(types::direction::EGRESS),
        ingress_rule: rule(types::direction::INGRESS),
        replied: state & types::flow_state::FLOW_REPLIED.0 != 0,
        revoked: state & types::flow_state::FLOW_REVOKED.0 != 0,
        current: false,
    }
}

fn end_of(end: &types::flow_end) -> End {
    match types::end_kind(end.kind.into()) {
        types::end_kind::END_POD => End::Pod(end.via),
        types::end_kind::END_REMOTE => End::Remote,
        types::end_kind::END_NODE => End::Node,
        _ => End::Outside,
    }
}
