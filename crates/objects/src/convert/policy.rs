use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as net;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kilter_model::{
    IpBlock, NetworkPolicy, Origin, Peer, PolicyPort, PolicyRule, PortRange, PortSpec, Selector,
};

use super::{Context, labels::selector};
use crate::Error;

/// A NetworkPolicy with its defaults applied (`anchors` numbering: semantics 1, 2, 3, 5).
///
/// A peer without any field this version knows matches nothing: it may be of a newer API, and an
/// unknown peer must not open the pod.
///
/// # Errors
/// A selector, port, protocol or CIDR that is none. Whoever gets one from a watch must not go on
/// as if the policy were absent: the pods it selects would be open.
pub fn network_policy(object: &net::NetworkPolicy, origin: Origin) -> Result<NetworkPolicy, Error> {
    let context = Context::namespaced("NetworkPolicy", &object.metadata);
    let spec = object.spec.clone().unwrap_or_default();
    let pod_selector = match &spec.pod_selector {
        Some(s) => {
            selector(s).map_err(|e| context.error(format!("spec.podSelector.{}", e.field), e.message))?
        }
        None => Selector::default(),
    };
    let (ingress, egress) = applies(&spec);
    let rules = Rules { context, origin };
    Ok(NetworkPolicy {
        ingress: match ingress {
            true => Some(rules.ingress(spec.ingress.as_deref().unwrap_or_default())?),
            false => None,
        },
        egress: match egress {
            true => Some(rules.egress(spec.egress.as_deref().unwrap_or_default())?),
            false => None,
        },
        pod_selector,
        name: rules.context.name,
        origin: rules.origin,
    })
}

/// To which directions a policy applies. Without `policyTypes`: to ingress always, to egress only
/// if there are egress rules (an empty list is none).
fn applies(spec: &net::NetworkPolicySpec) -> (bool, bool) {
    match spec.policy_types.as_deref() {
        Some(types) if !types.is_empty() => {
            (types.iter().any(|t| t == "Ingress"), types.iter().any(|t| t == "Egress"))
        }
        _ => (true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())),
    }
}

struct Rules {
    context: Context,
    origin: Origin,
}

impl Rules {
    fn ingress(&self, rules: &[net::NetworkPolicyIngressRule]) -> Result<Vec<PolicyRule>, Error> {
        let each = rules.iter().enumerate();
        each.map(|(i, r)| self.rule(&format!("spec.ingress[{i}]"), "from", &r.from, &r.ports)).collect()
    }

    fn egress(&self, rules: &[net::NetworkPolicyEgressRule]) -> Result<Vec<PolicyRule>, Error> {
        let each = rules.iter().enumerate();
        each.map(|(i, r)| self.rule(&format!("spec.egress[{i}]"), "to", &r.to, &r.ports)).collect()
    }

    /// A rule of either direction; `side` is the field of its peers. Null and `[]` both mean anyone,
    /// and any port.
    fn rule(
        &self,
        path: &str,
        side: &str,
        peers: &Option<Vec<net::NetworkPolicyPeer>>,
        ports: &Option<Vec<net::NetworkPolicyPort>>,
    ) -> Result<PolicyRule, Error> {
        let peers = match peers.as_deref() {
            None | Some([]) => None,
            Some(peers) => Some(self.peers(&format!("{path}.{side}"), peers)?),
        };
        let ports = match ports.as_deref() {
            None | Some([]) => None,
            Some(ports) => Some(self.ports(&format!("{path}.ports"), ports)?),
        };
        Ok(PolicyRule { peers, ports, origin: self.origin.clone() })
    }

    fn peers(&self, path: &str, peers: &[net::NetworkPolicyPeer]) -> Result<Vec<Peer>, Error> {
        let mut known = vec![];
        for (i, peer) in peers.iter().enumerate() {
            known.extend(self.peer(&format!("{path}[{i}]"), peer)?);
        }
        Ok(known)
    }

    fn peer(&self, path: &str, peer: &net::NetworkPolicyPeer) -> Result<Option<Peer>, Error> {
        if let Some(block) = &peer.ip_block {
            return self.block(&format!("{path}.ipBlock"), block).map(|b| Some(Peer::IpBlock(b)));
        }
        let read = |field: &str, s| {
            selector(s).map_err(|e| self.context.error(format!("{path}.{field}.{}", e.field), e.message))
        };
        let namespaces =
            peer.namespace_selector.as_ref().map(|s| read("namespaceSelector", s)).transpose()?;
        let pods = peer.pod_selector.as_ref().map(|s| read("podSelector", s)).transpose()?;
        Ok(match (namespaces, pods) {
            (None, None) => None,
            (namespaces, pods) => Some(Peer::Pods { namespaces, pods: pods.unwrap_or_default() }),
        })
    }

    fn block(&self, path: &str, block: &net::IPBlock) -> Result<IpBlock, Error> {
        let parse = |field: String, text: &str| {
            parse_cidr(text).ok_or_else(|| self.context.error(field, format!("{text:?} is not a CIDR")))
        };
        let cidr = parse(format!("{path}.cidr"), &block.cidr)?;
        let except = block.except.iter().flatten().enumerate();
        let except =
            except.map(|(i, e)| parse(format!("{path}.except[{i}]"), e)).collect::<Result<Vec<_>, _>>()?;
        Ok(IpBlock { cidr, except })
    }

    fn ports(&self, path: &str, ports: &[net::NetworkPolicyPort]) -> Result<Vec<PolicyPort>, Error> {
        ports.iter().enumerate().map(|(i, p)| self.port(&format!("{path}[{i}]"), p)).collect()
    }

    fn port(&self, path: &str, port: &net::NetworkPolicyPort) -> Result<PolicyPort, Error> {
        let protocol = self.context.protocol(&format!("{path}.protocol"), port.protocol.as_deref())?;
        let end = port.end_port.map(|p| self.context.port(&format!("{path}.endPort"), p)).transpose()?;
        let spec = match (&port.port, end) {
            (None, None) => PortSpec::Range(PortRange::ALL),
            (Some(IntOrString::Int(first)), end) => {
                let first = self.context.port(&format!("{path}.port"), *first)?;
                let last = end.unwrap_or(first);
                if last < first {
                    let message = format!("{last} is below port {first}");
                    return Err(self.context.error(format!("{path}.endPort"), message));
                }
                PortSpec::Range(PortRange { first, last })
            }
            (Some(IntOrString::String(name)), None) => PortSpec::Named(name.as_str().into()),
            (_, Some(_)) => {
                return Err(self
                    .context
                    .error(format!("{path}.endPort"), "needs a numeric port to start from"));
            }
        };
        Ok(PolicyPort { protocol, port: spec })
    }
}

/// A CIDR, host bits cleared. Leading zeros are decimal, as in Kubernetes (`ParseCIDRSloppy`);
/// IPv4-mapped IPv6 is not unwrapped.
pub(crate) fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let length = decimal(length)?;
    Some(IpNet::new(parse_address(address)?, length).ok()?.trunc())
}

/// A number of nothing but digits: Rust's own reading takes a sign, too.
fn decimal(text: &str) -> Option<u8> {
    text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let octets: Vec<String> =
        text.split('.').map(|o| decimal(o).map(|n| n.to_string())).collect::<Option<_>>()?;
    octets.join(".").parse().ok()
}
