//! EndpointSlices of Services with selectors, by the computation that analysis uses too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kilter_model::{Origin, ServiceType, ZONE_LABEL};
use kilter_objects::endpoints::{self, Subject};
use kube::ResourceExt;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::{Error, parallel, pods, verbs};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The manager that `objects` puts into the slices it computes.
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// When what led to the slice's present state happened: what measures how long that took goes by it.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

pub(crate) struct Endpoints {
    context: Context,
    triggers: Arc<Triggers>,
    managed: Arc<Managed>,
}

/// The slices of each Service that are ours to manage: a namespace may have thousands of others.
#[derive(Default)]
struct Managed(Mutex<HashMap<Key, BTreeSet<Key>>>);

impl Managed {
    fn note(&self, before: Option<&Arc<EndpointSlice>>, after: Option<&Arc<EndpointSlice>>) {
        let mut managed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((slice, service)) = before.and_then(|it| Some((key(&**it), service_of(it)?)))
            && let Some(slices) = managed.get_mut(&service)
        {
            slices.remove(&slice);
            if slices.is_empty() {
                managed.remove(&service);
            }
        }
        if let Some((slice, service)) = after.and_then(|it| Some((key(&**it), service_of(it)?))) {
            managed.entry(service).or_default().insert(slice);
        }
    }

    fn of(&self, service: &Key) -> Vec<Key> {
        let managed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        managed.get(service).into_iter().flatten().cloned().collect()
    }
}

/// When each Service's first change that has not been dealt with happened.
#[derive(Default)]
struct Triggers(Mutex<HashMap<Key, Timestamp>>);

impl Triggers {
    fn note(&self, service: &Key, at: Timestamp) {
        let mut triggers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = triggers.entry(service.clone()).or_insert(at);
        *first = (*first).min(at);
    }

    fn take(&self, service: &Key) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service)
    }
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (Endpoints, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let triggers = Arc::new(Triggers::default());
    let (wake, note) = (queue.clone(), triggers.clone());
    context.services.on_each(move |service| {
        note.note(&key(&**service), Timestamp::now());
        wake.add(key(&**service));
    });
    let (wake, services) = (queue.clone(), context.services.clone());
    context.nodes.on_change(move |before, after| {
        if before.and_then(|node| zone(node)) != after.and_then(|node| zone(node)) {
            services.all().iter().for_each(|service| wake.add(key(&**service)));
        }
    });
    let managed = Arc::new(Managed::default());
    let (wake, note) = (queue.clone(), managed.clone());
    context.slices.on_change(move |before, after| {
        note.note(before, after);
        // Somebody else may have changed or deleted what is ours.
        before.into_iter().chain(after).filter_map(|slice| service_of(slice)).for_each(|service| wake.add(service));
    });
    let (wake, note, services) = (queue.clone(), triggers.clone(), context.services.clone());
    context.pods.on_each(move |pod| {
        for service in services.in_namespace(&pod.namespace().unwrap_or_default()) {
            if selects(&service, pod) {
                note.note(&key(&*service), trigger_time(pod));
                wake.add(key(&*service));
            }
        }
    });
    (Endpoints { context: context.clone(), triggers, managed }, queue)
}

/// The zone that a node is in, where it says so.
fn zone(node: &Node) -> Option<Arc<str>> {
    node.labels().get(ZONE_LABEL).filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into())
}

/// When a pod last became ready or stopped being so.
fn trigger_time(pod: &Pod) -> Timestamp {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    ready.and_then(|c| c.last_transition_time.as_ref()).map_or_else(Timestamp::now, |t| t.0)
}

/// Whether the selector alone matches: a cheap test before anything is converted.
fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(k, v)| pod.labels().get(k) == Some(v)))
}

/// The Service of a slice that is ours to manage.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let ours = slice.labels().get(MANAGED_BY).is_some_and(|by| by == MANAGER);
    let service = slice.labels().get(SERVICE_NAME).filter(|_| ours)?;
    Some(Key::new(slice.namespace().unwrap_or_default(), service.as_str()))
}

impl Reconcile for Endpoints {
    const NAME: &'static str = "endpointslice";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let service = self.context.services.get(key);
        let mut wanted = match &service {
            Some(service) if service.metadata.deletion_timestamp.is_none() => match self.wanted(service)? {
                Some(wanted) => wanted,
                // Without a selector the slices are somebody else's.
                None => return Ok(None),
            },
            _ => BTreeMap::new(),
        };
        let trigger = self.triggers.take(key);
        let done = self.write(key, &mut wanted, trigger).await;
        if let (Err(_), Some(trigger)) = (&done, trigger) {
            self.triggers.note(key, trigger);
        }
        done.map(|()| None)
    }
}

impl Endpoints {
    /// The slices that a Service should have, by name; `None` where it has no selector.
    fn wanted(&self, service: &Service) -> Result<Option<BTreeMap<String, EndpointSlice>>, Error> {
        let model = kilter_objects::service(service, Origin::Builtin)?;
        if model.selector.is_none() || model.service_type == ServiceType::ExternalName {
            return Ok(None);
        }
        let mut subjects = Vec::new();
        for pod in self.context.pods.in_namespace(&service.namespace().unwrap_or_default()) {
            if selects(service, &pod) && !pods::has_ended(&pod) {
                subjects.push((kilter_objects::pod(&pod, Origin::Builtin)?, hostname(&pod, service)));
            }
        }
        let subjects = subjects.iter().map(|(pod, hostname)| {
            let zone = pod.node.as_ref().and_then(|node| zone(&*self.context.nodes.get(&Key::new("", node.clone()))?));
            Subject { pod, hostname: hostname.clone(), zone }
        });
        let slices = endpoints::to_k8s(service, endpoints::slices(&model, subjects));
        Ok(Some(slices.into_iter().map(|slice| (slice.name_any(), slice)).collect()))
    }

    /// Makes the slices in the API those that are wanted.
    async fn write(
        &self,
        service: &Key,
        wanted: &mut BTreeMap<String, EndpointSlice>,
        trigger: Option<Timestamp>,
    ) -> Result<(), Error> {
        let mut updates = Vec::new();
        let mut surplus = Vec::new();
        for slice in self.managed.of(service).iter().filter_map(|name| self.context.slices.get(name)) {
            match wanted.remove(&slice.name_any()) {
                Some(now) if is_same(&slice, &now) => {}
                Some(now) => updates.push(EndpointSlice { metadata: merged(&slice, &now), ..now }),
                None => surplus.push(slice),
            }
        }
        let client = &self.context.client;
        // What comes before what goes: a moved endpoint is better known twice than not at all.
        let create = async |slice| Ok(verbs::create(client, &stamped(slice, trigger)).await.map(drop)?);
        parallel::all(std::mem::take(wanted).into_values().map(create).collect()).await?;
        let replace = async |slice| Ok(verbs::replace(client, &stamped(slice, trigger)).await.map(drop)?);
        parallel::all(updates.into_iter().map(replace).collect()).await?;
        let delete =
            async |slice: Arc<EndpointSlice>| Ok(verbs::delete(client, &*slice, None).await.map(drop)?);
        parallel::all(surplus.into_iter().map(delete).collect()).await
    }
}

/// A pod's own name below a Service: its `hostname`, where its `subdomain` is the Service.
fn hostname(pod: &Pod, service: &Service) -> Option<Arc<str>> {
    let spec = pod.spec.as_ref()?;
    let below = spec.subdomain.as_deref() == service.metadata.name.as_deref();
    spec.hostname.as_deref().filter(|name| below && !name.is_empty()).map(Arc::from)
}

/// Whether a slice already says what it should.
fn is_same(there: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    there.address_type == wanted.address_type
        && there.ports == wanted.ports
        && there.endpoints == wanted.endpoints
        && there.labels() == wanted.labels()
}

/// The metadata of the slice that is there, with the labels that are wanted.
fn merged(
    there: &EndpointSlice,
    wanted: &EndpointSlice,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    let mut meta = there.metadata.clone();
    meta.labels = wanted.metadata.labels.clone();
    meta.owner_references = wanted.metadata.owner_references.clone();
    meta
}

fn stamped(mut slice: EndpointSlice, trigger: Option<Timestamp>) -> EndpointSlice {
    if let Some(at) = trigger {
        slice.annotations_mut().insert(TRIGGER_TIME.into(), at.to_string());
    }
    slice
}
