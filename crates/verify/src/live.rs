//! What the nodes' loaded tables say of a question, beside what the model says; and what of it was
//! refused lately.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use kilter_model::{Cluster, Direction, PortRange};
use kilter_policy::naive::{Party, Query, evaluate, holder};
use kilter_policy::{ProtocolClass, Tables, Verdict};
use kilter_reach::interpreter::{Missing, Probe, decide};
use kilter_reach::why::{Answer, Case};
use kilter_twin::{Layout, NodeClient, TwinSpec};
use kilter_wire::control::Drop;
use kilter_wire::loaded::Loaded;
use serde::Serialize;

/// A node that has not yet loaded what the API says differs from the model only now: how often it is
/// asked, and how long between.
const READINGS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(60);

/// What the nodes say of one case of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// What each side's node has loaded for it.
    pub sides: Vec<LiveSide>,
    /// What was refused of it in the recent past, the newest last.
    pub drops: Vec<Drop>,
}

/// What one node has loaded for one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveSide {
    /// The node.
    pub node: String,
    /// `egress` or `ingress`.
    pub direction: String,
    /// Who connects.
    pub from: IpAddr,
    /// To whom.
    pub to: IpAddr,
    /// By which protocol.
    pub protocol: String,
    /// The ports for which it is so.
    pub ports: String,
    /// What the loaded rows decide.
    pub loaded: Verdict,
    /// By which rule, or which row is missing.
    pub by: String,
    /// What the model decides.
    pub model: Verdict,
}

impl Live {
    /// Whether some node decides otherwise than the model.
    pub fn differs(&self) -> bool {
        self.sides.iter().any(LiveSide::differs)
    }
}

impl LiveSide {
    fn differs(&self) -> bool {
        self.loaded != self.model
    }
}

/// What `why` answers from a fresh list of a twin's API, and what its nodes say of each case. A
/// difference counts when it is there in several readings.
pub async fn live(
    spec: &TwinSpec,
    why: impl Fn(&Cluster) -> Result<Answer>,
) -> Result<(Answer, Vec<Live>)> {
    let client = kilter_cluster::connect(&Layout::new(&spec.name).admin_kubeconfig()).await?;
    for reading in 1.. {
        let cluster = kilter_cluster::snapshot(&client).await?;
        let answer = why(&cluster)?;
        let nodes = Nodes::read(spec).await?;
        let live: Vec<Live> = answer.cases.iter().map(|case| nodes.say(&cluster, case)).collect();
        if reading == READINGS || !live.iter().any(Live::differs) {
            return Ok((answer, live));
        }
        tokio::time::sleep(PAUSE).await;
    }
    unreachable!("the last reading is returned")
}

/// What every node has loaded, and has refused.
struct Nodes {
    tables: BTreeMap<String, (Tables, BTreeMap<u32, String>)>,
    drops: Vec<Drop>,
}

impl Nodes {
    async fn read(spec: &TwinSpec) -> Result<Self> {
        let layout = Layout::new(&spec.name);
        let (mut tables, mut drops) = (BTreeMap::new(), Vec::new());
        for node in spec.node_plans() {
            let mut client = NodeClient::connect(&node.name, &layout.control_socket(&node.name)).await?;
            let Loaded { policy, rules, .. } = client.loaded().await?;
            tables.insert(node.name, (kilter_reach::rows::from_wire(&policy).unwrap_or_default(), rules));
            drops.extend(client.recent_drops().await?);
        }
        drops.sort_by_key(|drop| drop.at);
        Ok(Self { tables, drops })
    }

    fn say(&self, cluster: &Cluster, case: &Case) -> Live {
        let (mut sides, mut drops) = (Vec::new(), BTreeSet::new());
        for (query, ports) in &case.asked {
            for (from, to) in pairs(cluster, query) {
                let query = Query { from: end(cluster, &query.from, from), to: end(cluster, &query.to, to), ..query.clone() };
                let of_it = |drop: &Drop| {
                    (drop.from.0, drop.to.0) == (from, to)
                        && drop.protocol == query.protocol.to_string()
                        && ports.contains(drop.to.1)
                };
                drops.extend(self.drops.iter().enumerate().filter(|(_, drop)| of_it(drop)).map(|(number, _)| number));
                sides.extend(self.side(cluster, &query, *ports, Direction::Egress, (from, to)));
                sides.extend(self.side(cluster, &query, *ports, Direction::Ingress, (to, from)));
            }
        }
        Live { sides, drops: drops.into_iter().map(|number| self.drops[number].clone()).collect() }
    }

    /// What the node of a pod has loaded for these ports; nothing where no node judges: an end that is
    /// no pod, a pod that speaks to itself, or its own node that speaks to it.
    fn side(
        &self,
        cluster: &Cluster,
        query: &Query,
        ports: PortRange,
        direction: Direction,
        (pod, peer): (IpAddr, IpAddr),
    ) -> Vec<LiveSide> {
        let Some(judged) = holder(cluster, pod) else { return Vec::new() };
        let node = judged.node.as_deref().unwrap_or_default();
        let is_own_node = cluster.node(node).is_some_and(|it| it.addresses.contains(&peer));
        let Some((tables, rules)) = self.tables.get(node) else { return Vec::new() };
        if judged.addresses.contains(&peer) || (direction == Direction::Ingress && is_own_node) {
            return Vec::new();
        }
        let (from, to) = if direction == Direction::Egress { (pod, peer) } else { (peer, pod) };
        let mut sides: Vec<(LiveSide, PortRange)> = Vec::new();
        for range in cut(tables, pod, query.protocol, direction, ports) {
            let port = range.first;
            let said = decide(tables, &Probe { pod, peer, direction, protocol: query.protocol, port });
            let answer = evaluate(cluster, &Query { port, ..query.clone() });
            let side = LiveSide {
                node: node.to_owned(),
                direction: direction.to_string(),
                from,
                to,
                protocol: query.protocol.to_string(),
                ports: String::new(),
                loaded: said.map_or(Verdict::Deny, |decision| decision.verdict),
                by: said.map_or_else(missing, |it| rules.get(&it.rule.0).cloned().unwrap_or_else(|| format!("rule {}", it.rule))),
                model: if direction == Direction::Egress { answer.egress.verdict } else { answer.ingress.verdict },
            };
            match sides.last_mut().filter(|(last, _)| *last == side) {
                Some((_, last)) => last.last = range.last,
                None => sides.push((side, range)),
            }
        }
        let text = |range: PortRange| if range == PortRange::ALL { "all ports".into() } else { range.to_string() };
        sides.into_iter().map(|(side, range)| LiveSide { ports: text(range), ..side }).collect()
    }
}

/// These ports, cut where the loaded rows may change their mind.
fn cut(tables: &Tables, pod: IpAddr, protocol: ProtocolClass, direction: Direction, ports: PortRange) -> Vec<PortRange> {
    let posture = tables.postures.get(&pod);
    let of_pod = tables.intervals.keys().filter(|it| {
        Some(&it.posture) == posture && it.direction == direction && it.protocol == protocol
    });
    let begins = of_pod.flat_map(|it| [Some(it.ports.first), it.ports.last.checked_add(1)]).flatten();
    let starts: BTreeSet<u16> =
        begins.chain([ports.first]).filter(|port| ports.contains(*port)).collect();
    let lasts = starts.iter().skip(1).map(|next| next - 1).chain([ports.last]);
    starts.iter().zip(lasts).map(|(first, last)| PortRange { first: *first, last }).collect()
}

/// The addresses of both ends, family by family.
fn pairs(cluster: &Cluster, query: &Query) -> Vec<(IpAddr, IpAddr)> {
    let (from, to) = (addresses(cluster, &query.from), addresses(cluster, &query.to));
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
    pairs.filter(|(from, to)| from.is_ipv4() == to.is_ipv4()).collect()
}

fn addresses(cluster: &Cluster, party: &Party) -> Vec<IpAddr> {
    match party {
        Party::Pod(uid) => cluster.pod(uid).map_or_else(Vec::new, |pod| pod.addresses.clone()),
        Party::Node(name) => cluster.node(name).map_or_else(Vec::new, |node| node.addresses.clone()),
        Party::Address(address) => vec![*address],
    }
}

/// An end at one of its addresses: blocks tell those of a pod apart.
fn end(cluster: &Cluster, party: &Party, address: IpAddr) -> Party {
    match party {
        Party::Pod(uid) if cluster.pod(uid).is_some_and(|pod| pod.addresses.len() > 1) => Party::Address(address),
        other => other.clone(),
    }
}

fn missing(missing: Missing) -> String {
    let row = match missing {
        Missing::Posture => "posture row for the pod",
        Missing::Class => "class row for the peer",
        Missing::Interval => "interval row for the port",
        Missing::Set => "set row for the interval",
    };
    format!("no {row} is loaded")
}

/// Sides and drops that are printed; `-o json` has all.
const SHOWN: usize = 8;

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (different, alike): (Vec<_>, Vec<_>) = self.sides.iter().partition(|side| side.differs());
        match (different.len(), alike.len()) {
            (0, 0) => writeln!(f, "  loaded    no node judges it")?,
            (0, count) => writeln!(f, "  loaded    as the model says, on every node that judges it ({count} asked)")?,
            (count, of) => writeln!(f, "  loaded    DIFFERS from the model in {count} of {} (`kilter prove` shows all of it)", of + count)?,
        }
        different.iter().chain(&alike).take(SHOWN).try_for_each(|side| writeln!(f, "{side}"))?;
        match (different.len() + alike.len()).saturating_sub(SHOWN) {
            0 => {}
            more => writeln!(f, "            and {more} more (-o json shows all)")?,
        }
        if self.drops.is_empty() {
            return writeln!(f, "  refused   nothing lately");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let older = self.drops.len().saturating_sub(SHOWN);
        for drop in &self.drops[older..] {
            let ago = now.saturating_sub(Duration::from_micros(drop.at)).as_secs_f64();
            let Drop { node, direction, from, to, protocol, reason, .. } = drop;
            write!(f, "  refused   {ago:.1} s ago at {node} ({direction}): {}:{} -> {}:{} {protocol}: {reason}", from.0, from.1, to.0, to.1)?;
            writeln!(f, "{}", drop.rule.as_deref().map(|rule| format!(", {rule}")).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl fmt::Display for LiveSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, direction, from, to, protocol, ports, by, .. } = self;
        let word = |verdict: Verdict| if verdict.is_allow() { "allows" } else { "REFUSES" };
        write!(f, "            {node}: {direction} {from} -> {to} {protocol} {ports}: {}: {by}", word(self.loaded))?;
        if self.differs() {
            write!(f, "; the model {} it", word(self.model))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kilter_policy::{Interval, PostureId, SetId};

    use super::*;

    #[test]
    fn ports_are_cut_where_loaded_rows_begin_and_end() {
        let pod: IpAddr = "10.244.0.2".parse().unwrap();
        let mut tables = Tables::default();
        tables.postures.insert(pod, PostureId(1));
        let ports = PortRange { first: 80, last: 90 };
        let interval = Interval { posture: PostureId(1), direction: Direction::Ingress, protocol: ProtocolClass::Tcp, ports };
        tables.intervals.insert(interval, SetId(1));
        let cut = |direction| {
            let all = PortRange { first: 1, last: 100 };
            let ranges = cut(&tables, pod, ProtocolClass::Tcp, direction, all);
            ranges.into_iter().map(|it| (it.first, it.last)).collect::<Vec<_>>()
        };
        assert_eq!(cut(Direction::Ingress), [(1, 79), (80, 90), (91, 100)]);
        assert_eq!(cut(Direction::Egress), [(1, 100)]);
    }
}
