//! Addresses of Services of type LoadBalancer, from a pool. Which node answers for an address is not
//! decided here, but by the nodes.
//!
//! What a status says is kept, whoever wrote it, as long as it fits: so addresses survive a restart, and
//! nothing else remembers them.

mod pool;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kilter_cluster::{Recorder, Severity};
use kilter_model::{Family, LOAD_BALANCER_CLASS};
use serde_json::json;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::{Error, verbs};
use pool::{Pool, Refusal};

/// The condition of a Service that waits for an address. One that has all of its addresses has none.
const ASSIGNED: &str = "kilter.dev/AddressAssigned";

pub(crate) struct LoadBalancers {
    context: Context,
    state: Arc<Mutex<State>>,
    queue: Arc<Queue>,
    recorder: Recorder,
}

struct State {
    pool: Pool,
    /// Services that could not be given what they need.
    waiting: BTreeSet<Key>,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context, ranges: &[IpNet]) -> (LoadBalancers, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let state = Arc::new(Mutex::new(State { pool: Pool::new(ranges), waiting: BTreeSet::new() }));
    let (wake, noted) = (queue.clone(), state.clone());
    context.services.on_change(move |before, after| {
        let Some(service) = after.or(before) else { return };
        let of = |service: Option<&Arc<Service>>| service.map_or_else(Vec::new, |it| addresses(it));
        let mut state = lock(&noted);
        if state.pool.note(&key(&**service), &of(before), &of(after)) {
            state.waiting.iter().cloned().for_each(|key| wake.add(key));
        }
        wake.add(key(&**service));
    });
    let recorder = Recorder::new(context.client.clone(), "load-balancer-controller", None);
    (LoadBalancers { context: context.clone(), state, queue: queue.clone(), recorder }, queue)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses that a Service's status says.
pub(crate) fn addresses(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|it| it.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|it| it.ip.as_deref()?.parse().ok()).collect()
}

/// Whether a Service of type LoadBalancer leaves it to the cluster who balances, or names us.
fn is_ours(spec: &ServiceSpec) -> bool {
    let class = spec.load_balancer_class.as_deref();
    spec.type_.as_deref() == Some("LoadBalancer") && class.is_none_or(|class| class == LOAD_BALANCER_CLASS)
}

impl Reconcile for LoadBalancers {
    const NAME: &'static str = "load-balancer";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let service = self.context.services.get(key).filter(|it| it.metadata.deletion_timestamp.is_none());
        let spec = service.as_ref().and_then(|it| it.spec.as_ref());
        match (&service, spec) {
            (Some(service), Some(spec)) if is_ours(spec) => self.give(key, service, spec).await?,
            (service, spec) => {
                self.take_back(key);
                if let (Some(service), Some(spec)) = (service, spec) {
                    self.clear(service, spec).await?;
                }
            }
        }
        Ok(None)
    }
}

impl LoadBalancers {
    /// Gives a Service an address of each of its families, and says so in its status.
    async fn give(&self, key: &Key, service: &Service, spec: &ServiceSpec) -> Result<(), Error> {
        let had = addresses(service);
        let (given, refused) = self.allot(key, spec, &had);
        let conditions = conditions(service, refused.first());
        let before = service.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
        if given == had && conditions == before {
            return Ok(());
        }
        let ingress: Vec<_> = given.iter().map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP"})).collect();
        let status = json!({"loadBalancer": {"ingress": ingress}, "conditions": conditions});
        verbs::merge_status_as_read(&self.context.client, service, status).await?;
        if given != had && !given.is_empty() {
            let list: Vec<String> = given.iter().map(ToString::to_string).collect();
            let message = format!("Assigned {}", list.join(" and "));
            self.recorder.record(service, Severity::Normal, "AddressAssigned", message);
        }
        for refusal in refused {
            self.recorder.record(service, Severity::Warning, refusal.reason(), refusal.to_string());
        }
        Ok(())
    }

    /// The address that it asks for, or the one that it has, or any; family by family.
    fn allot(&self, key: &Key, spec: &ServiceSpec, had: &[IpAddr]) -> (Vec<IpAddr>, Vec<Refusal>) {
        let asked = spec.load_balancer_ip.as_deref().and_then(|text| text.trim().parse::<IpAddr>().ok());
        let families = spec.ip_families.iter().flatten().filter_map(|name| Family::named(name));
        let (mut given, mut refused) = (Vec::new(), Vec::new());
        let mut state = lock(&self.state);
        for family in families {
            let of_family = |it: &IpAddr| Family::of(it) == family;
            let kept = had.iter().copied().find(of_family);
            let answer = match (asked.filter(of_family), kept) {
                (Some(asked), _) => state.pool.take(key, asked),
                (None, Some(kept)) if state.pool.keep(key, kept).is_some() => Ok(kept),
                (None, _) => state.pool.any(key, family),
            };
            match answer {
                Ok(address) => given.push(address),
                Err(refusal) => refused.push(refusal),
            }
        }
        let freed = state.pool.release(key, &given);
        match refused.is_empty() {
            true => state.waiting.remove(key),
            false => state.waiting.insert(key.clone()),
        };
        if freed {
            self.wake(&state, key);
        }
        (given, refused)
    }

    /// A Service is gone, or of another type, or another's.
    fn take_back(&self, key: &Key) {
        let mut state = lock(&self.state);
        state.waiting.remove(key);
        if state.pool.release(key, &[]) {
            self.wake(&state, key);
        }
    }

    fn wake(&self, state: &State, but: &Key) {
        state.waiting.iter().filter(|key| *key != but).cloned().for_each(|key| self.queue.add(key));
    }

    /// Takes addresses of the pool out of the status of a Service that is no load balancer any more.
    /// Those of other classes are their own controllers' affair.
    async fn clear(&self, service: &Service, spec: &ServiceSpec) -> Result<(), Error> {
        if spec.type_.as_deref() == Some("LoadBalancer") {
            return Ok(());
        }
        let ours = addresses(service).into_iter().any(|it| lock(&self.state).pool.contains(it));
        let conditions = conditions(service, None);
        let waited = service.status.as_ref().and_then(|it| it.conditions.as_ref()).is_some_and(|it| *it != conditions);
        if ours || waited {
            let status = json!({"loadBalancer": {"ingress": null}, "conditions": conditions});
            verbs::merge_status_as_read(&self.context.client, service, status).await?;
        }
        Ok(())
    }
}

/// The conditions of a Service, with ours as it is to be.
fn conditions(service: &Service, refusal: Option<&Refusal>) -> Vec<Condition> {
    let mut all = service.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let before = all.iter().position(|it| it.type_ == ASSIGNED).map(|at| all.remove(at));
    let Some(refusal) = refusal else { return all };
    let message = refusal.to_string();
    all.push(match before {
        Some(same) if same.message == message => same,
        _ => Condition {
            type_: ASSIGNED.into(),
            status: "False".into(),
            reason: refusal.reason().into(),
            message,
            last_transition_time: Time(Timestamp::now()),
            observed_generation: service.metadata.generation,
        },
    });
    all
}
