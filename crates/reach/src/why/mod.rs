//! Why one end may open a connection to another, or what is missing for it.
//!
//! The verdict is the naive evaluator's, asked once for everything that the question leaves open:
//! each pod behind a Service, each range of ports or addresses that no rule tells apart.

mod addresses;
mod answer;
mod nearest;
mod nodes;
mod ports;
mod subject;

use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{Cluster, Event, NamespacedName, Pod, ServicePort, Uid};
use kilter_objects::endpoints;
use kilter_policy::naive::{self, Party, Query};

pub use answer::{Answer, Case, Side, Unserved};
pub use nearest::{Lack, Mismatch, Near, is_slip, nearest};
pub use subject::{NameError, Port, PortText, Subject, find, split_port};

use crate::connections::{Connection, End, Options};
use nodes::Way;
use ports::Ports;

/// A question: may `from` open a connection to `to`?
#[derive(Debug, Clone)]
pub struct Question {
    /// Who opens it.
    pub from: Subject,
    /// To whom.
    pub to: Subject,
    /// On which port; without one, on those that the destination declares, or on all.
    pub port: Option<Port>,
}

/// Answers a question.
///
/// # Errors
/// A source that opens no connections (a Service), or a port name where nothing has names.
pub fn why(cluster: &Cluster, options: &Options, question: &Question) -> Result<Answer, NameError> {
    let mut asker = Asker { cluster: cluster.clone(), options, answer: Answer::default() };
    for source in asker.sources(&question.from)? {
        asker.ask(&source, question)?;
    }
    asker.answer.settle();
    Ok(asker.answer)
}

/// The rules that permit a connection of the list: a case for each reason.
pub fn explain(cluster: &Cluster, options: &Options, connection: &Connection) -> Vec<Case> {
    let mut asker = Asker { cluster: cluster.clone(), options, answer: Answer::default() };
    let permitted = |protocol, port| {
        connection.ports.contains(protocol, port) || connection.depends_on_address.contains(protocol, port)
    };
    for source in asker.at_end(&connection.from) {
        for target in asker.at_end(&connection.to) {
            let pod = match &target.what {
                What::Pod(uid) => asker.cluster.pod(uid),
                What::Node(_) | What::Address(_) => None,
            };
            let ports = Ports::all(&asker.cluster, pod).only(permitted);
            asker.judge(&source, &target, None, &ports);
        }
    }
    asker.answer.settle();
    asker.answer.cases.retain(|it| it.verdict.is_allow());
    asker.answer.cases
}

/// One thing at an end, and what it is called.
#[derive(Debug, Clone)]
struct Place {
    title: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Pod(Uid),
    Node(Arc<str>),
    Address(IpAddr),
}

struct Asker<'a> {
    /// Pods without an address get one of those that they may have, for each case.
    cluster: Cluster,
    options: &'a Options,
    answer: Answer,
}

impl Asker<'_> {
    fn sources(&self, subject: &Subject) -> Result<Vec<Place>, NameError> {
        match subject {
            Subject::Service(name) => Err(NameError::Malformed {
                text: format!("svc/{name}"),
                message: "a Service opens no connections; name the workload that does".into(),
            }),
            other => Ok(self.places(other)),
        }
    }

    /// The things that a subject stands for; a Service's pods are found port by port instead.
    fn places(&self, subject: &Subject) -> Vec<Place> {
        match subject {
            Subject::Pods { title, pods } => {
                let place = |uid: &Uid| Place { title: title.clone(), what: What::Pod(uid.clone()) };
                pods.iter().map(place).collect()
            }
            Subject::Node(name) => {
                vec![Place { title: format!("node/{name}"), what: What::Node(name.clone()) }]
            }
            Subject::Address(address) => vec![self.at(*address)],
            Subject::Internet => {
                let ranges = addresses::outside(&self.cluster, self.options).into_iter();
                ranges
                    .map(|range| Place { title: range.to_string(), what: What::Address(range.first) })
                    .collect()
            }
            Subject::Service(_) => vec![],
        }
    }

    /// What is at an end of a listed connection.
    fn at_end(&self, end: &End) -> Vec<Place> {
        match end {
            End::Workload(owner) => {
                let pods = subject::distinct(self.cluster.pods().filter(|it| it.owner == *owner));
                self.places(&Subject::Pods { title: owner.to_string(), pods })
            }
            End::External(range) => {
                vec![Place { title: range.to_string(), what: What::Address(range.first) }]
            }
            // Nothing is known of it but what an Ingress says, so there is no rule to name.
            End::IngressController => vec![],
        }
    }

    fn at(&self, address: IpAddr) -> Place {
        let holder = naive::holder(&self.cluster, address);
        let title = holder.map_or(address.to_string(), |pod| format!("{address} ({})", pod.owner));
        Place { title, what: What::Address(address) }
    }

    fn ask(&mut self, source: &Place, question: &Question) -> Result<(), NameError> {
        let Subject::Service(name) = &question.to else {
            for target in self.places(&question.to) {
                if !self.ask_node(source, &target, question) {
                    let ports = self.ports(&target, question)?;
                    self.judge(source, &target, None, &ports);
                }
            }
            return Ok(());
        };
        let wanted = |it: &ServicePort| question.port.as_ref().is_none_or(|port| port.is_of(it));
        self.ask_service(source, name, wanted, "");
        Ok(())
    }

    /// Whether the target is a port of a node that leads on; then it is asked about where that leads. A pod's own
    /// side is judged by the node's address, too, where the packets leave its node for it: so they do on the way to a
    /// `hostPort`, while sockets that ask for a node port ask for a pod at once.
    fn ask_node(&mut self, source: &Place, target: &Place, question: &Question) -> bool {
        let Some(Port { port: PortText::Number(number), protocol }) = question.port else { return false };
        let (node, at) = match &target.what {
            What::Node(name) => (self.cluster.node(name), None),
            What::Address(at) => (self.cluster.nodes().find(|it| it.addresses.contains(at)), Some(*at)),
            What::Pod(_) => (None, None),
        };
        let Some(node) = node.cloned() else { return false };
        match nodes::way(&self.cluster, &node.name, at, protocol, number) {
            None => false,
            Some(Way::Service { name, port }) => {
                let wanted = |it: &ServicePort| it.port == port && it.protocol == protocol;
                self.ask_service(source, &name, wanted, &format!("port {number} of {}, ", target.title));
                true
            }
            Some(Way::Pod { uid, port }) => {
                let is_far = match &source.what {
                    What::Pod(uid) => self.cluster.pod(uid).is_some_and(|it| it.node.as_ref() != Some(&node.name)),
                    What::Node(_) | What::Address(_) => false,
                };
                if is_far {
                    self.judge(source, target, None, &Ports::one(protocol, number));
                }
                let title = self.cluster.pod(&uid).map(|it| it.owner.to_string()).unwrap_or_default();
                let via = Some(format!("port {number} of {}", target.title));
                self.judge(source, &Place { title, what: What::Pod(uid) }, via, &Ports::one(protocol, port));
                true
            }
        }
    }

    /// A Service is no end of a connection: each of its ports leads to ports of pods, and policy
    /// judges those (the page on NetworkPolicy; website#8295). `way` is what leads to the Service, if anything does.
    fn ask_service(
        &mut self,
        source: &Place,
        name: &NamespacedName,
        wanted: impl Fn(&ServicePort) -> bool,
        way: &str,
    ) {
        let Some(service) = self.cluster.service(name).cloned() else { return };
        let ports: Vec<_> = service.ports.iter().filter(|it| wanted(it)).collect();
        if ports.is_empty() {
            self.answer.unserved.push(Unserved::no_port(&service));
        }
        let pods = self.cluster.pods().filter(|it| endpoints::selects(&service, it));
        let pods: Vec<Pod> = pods.cloned().collect();
        if let Some(why) = Unserved::no_pods(&service, &pods, &self.cluster) {
            self.answer.unserved.push(why);
            return;
        }
        for port in ports {
            let mut served = false;
            let mut seen = std::collections::BTreeSet::new();
            for pod in &pods {
                let at_pod = endpoints::ports_at(&service, pod);
                let same =
                    |it: &&kilter_model::EndpointPort| it.name == port.name && it.protocol == port.protocol;
                let Some(number) = at_pod.iter().find(same).map(|it| it.port) else { continue };
                served = true;
                // Replicas that no policy tells apart are asked about once.
                if !seen.insert((pod.owner.clone(), pod.labels.clone(), number)) {
                    continue;
                }
                let target = Place { title: pod.owner.to_string(), what: What::Pod(pod.uid.clone()) };
                let via = format!("{way}svc/{} port {}", service.name, port.port);
                self.judge(source, &target, Some(via), &Ports::one(port.protocol, number));
            }
            if !served {
                self.answer.unserved.push(Unserved::no_target(&service, port, &pods));
            }
        }
    }

    fn ports(&self, target: &Place, question: &Question) -> Result<Ports, NameError> {
        let pod = match &target.what {
            What::Pod(uid) => self.cluster.pod(uid),
            What::Address(address) => naive::holder(&self.cluster, *address),
            What::Node(_) => None,
        };
        match &question.port {
            None => Ok(pod.and_then(Ports::declared).unwrap_or_else(|| Ports::all(&self.cluster, pod))),
            Some(Port { port: PortText::Number(number), protocol }) => Ok(Ports::one(*protocol, *number)),
            Some(Port { port: PortText::Name(name), protocol }) => {
                let number = pod.and_then(|it| it.named_port(name, *protocol));
                number.map(|it| Ports::one(*protocol, it)).ok_or_else(|| NameError::NotFound {
                    text: format!("{}: {protocol} port {name}", target.title),
                    near: pod.map(ports::names).unwrap_or_default(),
                })
            }
        }
    }

    fn judge(&mut self, source: &Place, target: &Place, via: Option<String>, ports: &Ports) {
        for from in self.addresses(source) {
            self.settle_at(source, from);
            for to in self.addresses(target) {
                self.settle_at(target, to);
                for (protocol, range) in ports.ranges() {
                    let query = Query {
                        from: party(source),
                        to: party(target),
                        protocol: protocol.into(),
                        port: range.first,
                    };
                    let answer = naive::evaluate(&self.cluster, &query);
                    let near = nearest(&self.cluster, &query, &answer);
                    let asked = (query, range);
                    let mut case = Case::new(&source.title, &target.title, via.clone(), asked, answer, near);
                    case.ports.insert(protocol, range);
                    self.answer.add(case);
                }
            }
        }
    }

    /// The addresses to ask about: `None` where the thing has one, or needs none.
    fn addresses(&self, place: &Place) -> Vec<Option<IpAddr>> {
        let What::Pod(uid) = &place.what else { return vec![None] };
        let Some(pod) = self.cluster.pod(uid).filter(|it| it.addresses.is_empty()) else { return vec![None] };
        addresses::of_pod(&self.cluster, pod, self.options)
    }

    /// Gives a pod without an address this one.
    fn settle_at(&mut self, place: &Place, address: Option<IpAddr>) {
        let (What::Pod(uid), Some(address)) = (&place.what, address) else { return };
        let Some(pod) = self.cluster.pod(uid) else { return };
        let pod = Pod { addresses: vec![address], ..pod.clone() };
        self.cluster.apply(Event::Pod(pod));
    }
}

fn party(place: &Place) -> Party {
    match &place.what {
        What::Pod(uid) => Party::Pod(uid.clone()),
        What::Node(name) => Party::Node(name.clone()),
        What::Address(address) => Party::Address(*address),
    }
}
