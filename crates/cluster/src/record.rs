use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use crate::Error;

/// Events waiting to be written. When it is full, more are lost: they are for people to read, and
/// must neither fill memory nor hold up what they report.
const CAPACITY: usize = 1024;

/// Distinct events remembered in order to count repetitions instead of repeating them.
const REMEMBERED: usize = 4096;

/// Whether somebody should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Things take their course.
    Normal,
    /// Something is not as it should be.
    Warning,
}

/// Writes `v1` Events, which `kubectl describe` shows with the object they are about. Repetitions
/// raise a count. Writing happens in the background: nobody waits for an event.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Occurrence {
    uid: String,
    kind: String,
    api_version: String,
    namespace: String,
    name: String,
    severity: Severity,
    reason: &'static str,
    message: String,
}

impl Recorder {
    /// A recorder that reports as `component` (`kilter-scheduler`), on `host` where that is a
    /// node. Must be called within a runtime; its writer ends with the last clone.
    pub fn new(client: Client, component: &str, host: Option<&str>) -> Self {
        let (queue, waiting) = mpsc::channel(CAPACITY);
        let source = EventSource { component: Some(component.into()), host: host.map(Into::into) };
        tokio::spawn(Writer { client, source, known: HashMap::new(), salt: RandomState::new() }.run(waiting));
        Self { queue }
    }

    /// Records that something happened to an object: `reason` in CamelCase, for programs;
    /// `message` a sentence, for people.
    pub fn record<K>(&self, object: &K, severity: Severity, reason: &'static str, message: impl Into<String>)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let meta = object.meta();
        let occurrence = Occurrence {
            uid: meta.uid.clone().unwrap_or_default(),
            kind: K::kind(&()).into_owned(),
            api_version: K::api_version(&()).into_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            severity,
            reason,
            message: message.into(),
        };
        if self.queue.try_send(occurrence).is_err() {
            tracing::debug!(reason, "event lost: too many are waiting");
        }
    }
}

struct Writer {
    client: Client,
    source: EventSource,
    /// The name of the Event object and how often it has happened.
    known: HashMap<Occurrence, (String, i32)>,
    salt: RandomState,
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = waiting.recv().await {
            if let Err(error) = self.write(&occurrence).await {
                tracing::debug!(reason = occurrence.reason, %error, "event not written");
                self.known.remove(&occurrence);
            }
        }
    }

    async fn write(&mut self, occurrence: &Occurrence) -> Result<(), Error> {
        // Events about what is in no namespace are kept in `default`, where kubectl looks.
        let namespace = if occurrence.namespace.is_empty() { "default" } else { &occurrence.namespace };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let now = Time(Timestamp::now());
        let failed = |e| Error::from_kube(format!("record {}", occurrence.reason), e);
        if let Some((name, count)) = self.known.get_mut(occurrence) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": now});
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map_err(failed) {
                // The API forgets events after a while.
                Err(error) if error.is_not_found() => {}
                other => return other.map(|_| ()),
            }
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let event = self.event(occurrence, namespace, now);
        api.create(&PostParams::default(), &event).await.map_err(failed)?;
        self.known.insert(occurrence.clone(), (event.metadata.name.unwrap_or_default(), 1));
        Ok(())
    }

    fn event(&self, of: &Occurrence, namespace: &str, now: Time) -> Event {
        let text = |s: &String| Some(s.clone()).filter(|s| !s.is_empty());
        // Names must differ between processes and moments, as kubelet's do.
        let unique = self.salt.hash_one((of, now.0.as_nanosecond()));
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{unique:016x}", of.name)),
                namespace: Some(namespace.into()),
                ..Default::default()
            },
            involved_object: ObjectReference {
                api_version: text(&of.api_version),
                kind: text(&of.kind),
                namespace: text(&of.namespace),
                name: text(&of.name),
                uid: text(&of.uid),
                ..Default::default()
            },
            type_: Some(format!("{:?}", of.severity)),
            reason: Some(of.reason.into()),
            message: Some(of.message.clone()),
            source: Some(self.source.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Default::default()
        }
    }
}
