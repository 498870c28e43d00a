use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::records::{Kind, Records};
use super::{Answer, TTL, Zone};

/// The version of the specification that is answered (section 2.2).
const SCHEMA_VERSION: &str = "1.1.0";

/// Aliases followed within the cluster before the chain is taken for a loop.
const MAX_ALIASES: usize = 8;

/// SRV records carry no preference here.
const SRV_PRIORITY: u16 = 0;
const SRV_WEIGHT: u16 = 100;

/// What there is at a name.
enum Found {
    /// These data, of which those of the asked type are the answer; none: the name only exists.
    Data(Vec<RData>),
    /// An alias.
    Alias(Name),
    /// Nothing, and nothing below.
    Nothing,
    /// Not in this zone.
    Elsewhere,
}

/// A name's labels in lower case.
pub(super) fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}

impl Zone {
    /// Answers a question of class IN.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        if !self.shared.synced.load(Ordering::Acquire) {
            // Outside names do not depend on the cluster.
            return if self.is_own(name) { Answer::NotReady } else { Answer::Elsewhere };
        }
        let mut answers = Vec::new();
        let mut owner = name.clone();
        for _ in 0..MAX_ALIASES {
            match self.find(&owner) {
                Found::Elsewhere if answers.is_empty() => return Answer::Elsewhere,
                Found::Elsewhere => {
                    return Answer::Records { answers, additionals: vec![], onward: Some(owner) };
                }
                Found::Nothing => return self.negative(ResponseCode::NXDomain, answers),
                Found::Alias(target) => {
                    answers.push(record(&owner, RData::CNAME(CNAME(target.clone()))));
                    if matches!(kind, RecordType::CNAME | RecordType::ANY) {
                        return Answer::Records { answers, additionals: vec![], onward: None };
                    }
                    owner = target;
                }
                Found::Data(data) => return self.of_type(&owner, kind, data, answers),
            }
        }
        self.negative(ResponseCode::ServFail, answers)
    }

    /// Whether this zone answers for a name, existing or not.
    fn is_own(&self, name: &Name) -> bool {
        self.relative(&labels(name)).is_some()
            || reverse_address(name).is_some_and(|a| self.shared.networks.iter().any(|n| n.contains(&a)))
    }

    fn of_type(&self, owner: &Name, kind: RecordType, data: Vec<RData>, mut answers: Vec<Record>) -> Answer {
        let wanted = |data: &RData| kind == RecordType::ANY || data.record_type() == kind;
        let before = answers.len();
        answers.extend(data.into_iter().filter(wanted).map(|data| record(owner, data)));
        if answers.len() == before {
            return self.negative(ResponseCode::NoError, answers);
        }
        let additionals = self.targets(&answers[before..]);
        Answer::Records { answers, additionals, onward: None }
    }

    /// The addresses of what SRV records name.
    fn targets(&self, answers: &[Record]) -> Vec<Record> {
        let mut additionals: Vec<Record> = Vec::new();
        for answer in answers {
            let RData::SRV(srv) = &answer.data else { continue };
            if additionals.iter().any(|known| known.name == srv.target) {
                continue;
            }
            if let Found::Data(data) = self.find(&srv.target) {
                let addresses = data.into_iter().filter(|d| matches!(d, RData::A(_) | RData::AAAA(_)));
                additionals.extend(addresses.map(|d| record(&srv.target, d)));
            }
        }
        additionals
    }

    fn negative(&self, code: ResponseCode, answers: Vec<Record>) -> Answer {
        Answer::Negative { code, answers, authority: Box::new(record(&self.shared.domain, self.soa())) }
    }

    fn find(&self, name: &Name) -> Found {
        let labels = labels(name);
        let Some(relative) = self.relative(&labels) else {
            return self.find_reverse(name);
        };
        let below: Vec<&str> = relative.iter().map(String::as_str).collect();
        match below.as_slice() {
            [] => Found::Data(vec![self.soa(), RData::NS(NS(self.server()))]),
            ["dns-version"] => Found::Data(vec![RData::TXT(TXT::new(vec![SCHEMA_VERSION.into()]))]),
            ["svc"] | ["pod"] => Found::Data(vec![]),
            [namespace, "svc" | "pod"] if self.read().namespaces.contains(*namespace) => Found::Data(vec![]),
            [host, namespace, "pod"] if self.read().namespaces.contains(*namespace) => pod(host),
            [below @ .., service, namespace, "svc"] => match self.service(namespace, service) {
                Some(records) => in_service(&records, below),
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    /// The labels in front of the domain's; `None` where a name is not below the domain.
    fn relative<'a>(&self, labels: &'a [String]) -> Option<&'a [String]> {
        labels.strip_suffix(self.shared.labels.as_slice())
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Records>> {
        self.read().services.get(&(namespace.to_string(), name.to_string())).cloned()
    }

    fn find_reverse(&self, name: &Name) -> Found {
        let Some(address) = reverse_address(name) else { return Found::Elsewhere };
        let names = self.read().reverse.get(&address).cloned();
        match names {
            Some(names) => Found::Data(names.into_iter().map(|name| RData::PTR(PTR(name))).collect()),
            None if self.shared.networks.iter().any(|n| n.contains(&address)) => Found::Nothing,
            None => Found::Elsewhere,
        }
    }

    fn soa(&self) -> RData {
        let below = |label: &str| Name::from_ascii(label).and_then(|n| n.append_domain(&self.shared.domain));
        let hostmaster = below("hostmaster").unwrap_or_else(|_| self.shared.domain.clone());
        let serial = self.shared.serial.load(Ordering::Relaxed);
        // Nobody transfers the zone: refresh, retry and expire are customary values.
        RData::SOA(SOA::new(self.server(), hostmaster, serial, 7200, 1800, 86400, TTL))
    }

    /// The name under which every cluster knows its DNS.
    fn server(&self) -> Name {
        let name =
            Name::from_ascii("kube-dns.kube-system.svc").and_then(|n| n.append_domain(&self.shared.domain));
        name.unwrap_or_else(|_| self.shared.domain.clone())
    }
}

fn in_service(records: &Records, below: &[&str]) -> Found {
    match (below, &records.kind) {
        ([], Kind::External(target)) => Found::Alias(target.clone()),
        ([], Kind::Addressed(cluster_ips)) => addresses(cluster_ips.iter()),
        // Section 2.4.1: without a ready endpoint there is no such name.
        ([], Kind::Headless(hosts)) if !hosts.is_empty() => addresses(hosts.values().flatten()),
        ([port, protocol], _) => {
            let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
                return Found::Nothing;
            };
            match records.ports.get(&(port.to_string(), protocol.to_string())) {
                Some(targets) => Found::Data(targets.iter().map(|(port, name)| srv(*port, name)).collect()),
                None => Found::Nothing,
            }
        }
        ([one], _) => match (one.strip_prefix('_'), records.host(one)) {
            // `_tcp.SERVICE` exists where a port is named below it.
            (Some(protocol), _) if records.ports.keys().any(|(_, p)| p == protocol) => Found::Data(vec![]),
            (None, Some(of_host)) => addresses(of_host.iter()),
            _ => Found::Nothing,
        },
        _ => Found::Nothing,
    }
}

fn addresses<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> Found {
    let mut addresses: Vec<IpAddr> = addresses.copied().collect();
    addresses.sort();
    addresses.dedup();
    Found::Data(addresses.into_iter().map(address).collect())
}

/// Section 2.6: `10-0-0-1.NAMESPACE.pod` is that address, whether or not a pod holds it.
fn pod(host: &str) -> Found {
    let parsed = host.replace('-', ".").parse().ok().or_else(|| host.replace('-', ":").parse().ok());
    parsed.map_or(Found::Nothing, |found: IpAddr| Found::Data(vec![address(found)]))
}

fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn srv(port: u16, target: &Name) -> RData {
    RData::SRV(SRV::new(SRV_PRIORITY, SRV_WEIGHT, port, target.clone()))
}

fn record(owner: &Name, data: RData) -> Record {
    Record::from_rdata(owner.clone(), TTL, data)
}

/// The address that a reverse name (`1.0.96.10.in-addr.arpa`) stands for, in full.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}
