use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kilter_model::{
    Action, Caveat, ClusterNetworkPolicy, ClusterRule, ClusterTier, IpBlock, Origin, Peer, PolicyPort,
    PolicyRule, PortRange, PortSpec, Protocol, Selector, Subject,
};

use super::{Context, parse_cidr, selector};
use crate::Error;
use crate::api::{self, EgressPeer, NamespacedPod, ProtocolMatch};

/// A ClusterNetworkPolicy. Rules with a peer or protocol that is not known here, or with domain
/// names, fail closed, as the API has it: one that accepts matches nothing, one that denies or
/// passes denies everything.
///
/// # Errors
/// A tier, priority, action, selector, port or CIDR that is none. Whoever gets one from a watch
/// must not go on as if the policy were absent.
pub fn cluster_network_policy(
    object: &api::ClusterNetworkPolicy,
    origin: Origin,
) -> Result<ClusterNetworkPolicy, Error> {
    let spec = &object.spec;
    let reading = Reading { context: Context::new("ClusterNetworkPolicy", &object.metadata), origin };
    let ingress = spec.ingress.iter().enumerate().map(|(i, rule)| {
        let peers: Vec<EgressPeer> = rule.from.iter().cloned().map(Into::into).collect();
        reading.rule(
            &format!("spec.ingress[{i}]"),
            &rule.name,
            &rule.action,
            ("from", &peers),
            &rule.protocols,
        )
    });
    let egress = spec.egress.iter().enumerate().map(|(i, rule)| {
        reading.rule(
            &format!("spec.egress[{i}]"),
            &rule.name,
            &rule.action,
            ("to", &rule.to),
            &rule.protocols,
        )
    });
    Ok(ClusterNetworkPolicy {
        tier: reading.tier(spec.tier.as_deref())?,
        priority: reading.priority(spec.priority)?,
        subject: reading.subject(&spec.subject)?,
        ingress: ingress.collect::<Result<_, _>>()?,
        egress: egress.collect::<Result<_, _>>()?,
        name: reading.context.name.name.clone(),
        origin: reading.origin,
    })
}

struct Reading {
    context: Context,
    origin: Origin,
}

/// What of a rule is not enforced as it is written.
#[derive(Default)]
struct Caveats {
    domain_names: Vec<Arc<str>>,
    unknown: bool,
}

impl Reading {
    fn tier(&self, tier: Option<&str>) -> Result<ClusterTier, Error> {
        match tier {
            Some("Admin") => Ok(ClusterTier::Admin),
            Some("Baseline") => Ok(ClusterTier::Baseline),
            other => {
                let other = other.unwrap_or_default();
                Err(self.context.error("spec.tier", format!("{other:?} is not a tier: Admin or Baseline")))
            }
        }
    }

    fn priority(&self, priority: Option<i32>) -> Result<u16, Error> {
        let valid = priority.and_then(|it| u16::try_from(it).ok()).filter(|it| *it <= 1000);
        valid.ok_or_else(|| {
            let given = priority.map_or("nothing".to_owned(), |it| it.to_string());
            self.context.error("spec.priority", format!("{given} is not a priority: 0 to 1000"))
        })
    }

    fn subject(&self, subject: &api::Subject) -> Result<Subject, Error> {
        match (&subject.namespaces, &subject.pods) {
            (Some(namespaces), None) => Ok(Subject {
                namespaces: self.selector("spec.subject.namespaces", namespaces)?,
                pods: Selector::default(),
            }),
            (None, Some(pods)) => {
                let selected = self.pods("spec.subject.pods", pods)?;
                let missing = || self.context.error("spec.subject.pods.podSelector", "is required; {} selects all pods");
                let (namespaces, pods) = selected.ok_or_else(missing)?;
                Ok(Subject { namespaces, pods })
            }
            _ => Err(self.context.error("spec.subject", "needs exactly one of namespaces and pods")),
        }
    }

    /// A rule of either direction; `side` is the field of its peers and what it holds.
    fn rule(
        &self,
        path: &str,
        name: &Option<String>,
        action: &Option<String>,
        side: (&str, &[EgressPeer]),
        protocols: &Option<Vec<ProtocolMatch>>,
    ) -> Result<ClusterRule, Error> {
        let action = self.action(&format!("{path}.action"), action.as_deref())?;
        let mut caveats = Caveats::default();
        let mut peers = Vec::new();
        for (i, peer) in side.1.iter().enumerate() {
            self.peer(&format!("{path}.{}[{i}]", side.0), peer, &mut peers, &mut caveats)?;
        }
        // The API does not know a rule without peers; to match anyone would open or close more.
        caveats.unknown |= side.1.is_empty();
        let ports = match protocols.as_deref() {
            None | Some([]) => None,
            Some(protocols) => Some(self.ports(&format!("{path}.protocols"), protocols, &mut caveats)?),
        };
        let (caveat, origin) = (caveats.into_caveat(), self.origin.clone());
        let (action, matches) = match (&caveat, action) {
            (None, _) => (action, PolicyRule { peers: Some(peers), ports, origin }),
            (Some(_), Action::Accept) => (action, PolicyRule { peers: Some(Vec::new()), ports, origin }),
            (Some(_), Action::Deny | Action::Pass) => {
                (Action::Deny, PolicyRule { peers: None, ports: None, origin })
            }
        };
        let name = name.as_deref().filter(|it| !it.is_empty()).map(Into::into);
        Ok(ClusterRule { name, action, matches, caveat })
    }

    fn action(&self, path: &str, action: Option<&str>) -> Result<Action, Error> {
        match action {
            Some("Accept") => Ok(Action::Accept),
            Some("Deny") => Ok(Action::Deny),
            Some("Pass") => Ok(Action::Pass),
            other => {
                let other = other.unwrap_or_default();
                Err(self.context.error(path, format!("{other:?} is not an action: Accept, Deny or Pass")))
            }
        }
    }

    fn peer(
        &self,
        path: &str,
        peer: &EgressPeer,
        peers: &mut Vec<Peer>,
        caveats: &mut Caveats,
    ) -> Result<(), Error> {
        let before = peers.len();
        if let Some(namespaces) = &peer.namespaces {
            let namespaces = Some(self.selector(&format!("{path}.namespaces"), namespaces)?);
            peers.push(Peer::Pods { namespaces, pods: Selector::default() });
        }
        if let Some(pods) = &peer.pods
            && let Some((namespaces, pods)) = self.pods(&format!("{path}.pods"), pods)?
        {
            peers.push(Peer::Pods { namespaces: Some(namespaces), pods });
        }
        if let Some(nodes) = &peer.nodes {
            peers.push(Peer::Nodes(self.selector(&format!("{path}.nodes"), nodes)?));
        }
        for (i, network) in peer.networks.iter().flatten().enumerate() {
            let cidr = parse_cidr(network).ok_or_else(|| {
                self.context.error(format!("{path}.networks[{i}]"), format!("{network:?} is not a CIDR"))
            })?;
            peers.push(Peer::IpBlock(IpBlock { cidr, except: Vec::new() }));
        }
        let names = peer.domain_names.as_deref().unwrap_or_default();
        caveats.domain_names.extend(names.iter().map(|it| it.as_str().into()));
        caveats.unknown |= peers.len() == before && names.is_empty();
        Ok(())
    }

    /// `None` without the selector of pods, which the API wants: all pods would be a guess.
    fn pods(&self, path: &str, pods: &NamespacedPod) -> Result<Option<(Selector, Selector)>, Error> {
        let Some(selector) = &pods.pod_selector else { return Ok(None) };
        Ok(Some((
            self.selector(&format!("{path}.namespaceSelector"), &pods.namespace_selector)?,
            self.selector(&format!("{path}.podSelector"), selector)?,
        )))
    }

    fn selector(&self, path: &str, labels: &LabelSelector) -> Result<Selector, Error> {
        selector(labels).map_err(|e| self.context.error(format!("{path}.{}", e.field), e.message))
    }

    fn ports(
        &self,
        path: &str,
        protocols: &[ProtocolMatch],
        caveats: &mut Caveats,
    ) -> Result<Vec<PolicyPort>, Error> {
        let mut ports = Vec::new();
        for (i, it) in protocols.iter().enumerate() {
            let before = ports.len();
            for (name, numbers) in it.by_number() {
                let at = format!("{path}[{i}].{name}.destinationPort");
                let protocol = self.context.protocol(&at, Some(&name.to_uppercase()))?;
                let port = PortSpec::Range(self.range(&at, numbers.destination_port.as_ref())?);
                ports.push(PolicyPort { protocol, port });
            }
            // A name counts in every protocol.
            if let Some(name) = it.destination_named_port.as_deref().filter(|it| !it.is_empty()) {
                let named = |protocol| PolicyPort { protocol, port: PortSpec::Named(name.into()) };
                ports.extend(Protocol::ALL.map(named));
            }
            caveats.unknown |= ports.len() == before;
        }
        Ok(ports)
    }

    fn range(&self, path: &str, port: Option<&api::Port>) -> Result<PortRange, Error> {
        match port {
            None => Ok(PortRange::ALL),
            Some(api::Port { number: Some(number), range: None }) => {
                self.context.port(&format!("{path}.number"), *number).map(PortRange::single)
            }
            Some(api::Port { number: None, range: Some(range) }) => {
                let first = self.context.port(&format!("{path}.range.start"), range.start)?;
                let last = self.context.port(&format!("{path}.range.end"), range.end)?;
                if last < first {
                    let message = format!("{last} is below the start, {first}");
                    return Err(self.context.error(format!("{path}.range.end"), message));
                }
                Ok(PortRange { first, last })
            }
            Some(_) => Err(self.context.error(path, "needs exactly one of number and range")),
        }
    }
}

impl Caveats {
    fn into_caveat(self) -> Option<Caveat> {
        match (self.unknown, self.domain_names.is_empty()) {
            (true, _) => Some(Caveat::Unknown),
            (false, false) => Some(Caveat::DomainNames(self.domain_names)),
            (false, true) => None,
        }
    }
}
