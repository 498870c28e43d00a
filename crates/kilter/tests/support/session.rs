//! A twin whose objects are changed and whose packets are judged, again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use kilter_verify::{Finding, Judged, Options, Session, Trial, plan};
use serde_json::{Value, json};

use super::Twin;

/// Kind, namespace and name.
type Key = (String, String, String);

/// The objects that are there, and how packets are tried.
pub struct Stage {
    session: Session,
    live: BTreeMap<Key, Value>,
    changes: u64,
    /// How many trials had to be made twice, because the first was lost.
    pub repeated: usize,
}

/// An expected answer may take as long as the machine needs. A refusal shows at once, as the event of
/// the packet that was refused; without that it is none, however long nobody answers.
fn options() -> Options {
    Options {
        patience: Duration::from_secs(20),
        suspicion: Duration::from_millis(50),
        explanation: Duration::from_secs(20),
        catch_up: Duration::from_secs(60),
        ..Options::default()
    }
}

impl Stage {
    /// Of a twin that is up.
    pub async fn new(twin: &Twin) -> Self {
        let spec = kilter_twin::running(&twin.name).unwrap();
        let session = Session::open(&spec, &options()).await.unwrap();
        Self { session, live: BTreeMap::new(), changes: 0, repeated: 0 }
    }

    /// Makes these the objects that are there. Namespaces stay: nobody notices an empty one. What the
    /// API refuses is handed back.
    pub async fn set(&mut self, objects: impl IntoIterator<Item = Value>) -> Vec<String> {
        let wanted: BTreeMap<Key, Value> = objects.into_iter().map(|object| (key(&object), object)).collect();
        let client = self.session.client().clone();
        let is_gone = |(kind, ..): &Key, wanted: bool| kind != "Namespace" && !wanted;
        let gone = self.live.iter().filter(|(key, _)| is_gone(key, wanted.contains_key(key)));
        let gone: Vec<Value> = gone.map(|(_, object)| object.clone()).collect();
        for outcome in kilter_cluster::delete(&client, &gone).await.unwrap() {
            outcome.unwrap();
        }
        self.live.retain(|key, _| !is_gone(key, wanted.contains_key(key)));
        let changed = wanted.into_iter().filter(|(key, object)| self.live.get(key) != Some(object));
        let changed: Vec<(Key, Value)> = changed.collect();
        let objects: Vec<Value> = changed.iter().map(|(_, object)| object.clone()).collect();
        let outcomes = kilter_cluster::apply(&client, &objects).await.unwrap();
        let mut refused = Vec::new();
        for ((key, object), outcome) in changed.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => drop(self.live.insert(key, object)),
                Err(error) => refused.push(format!("{error}: {object}")),
            }
        }
        self.mark().await;
        refused
    }

    /// Changes a policy of each kind that selects nobody: nodes publish the versions that they have
    /// applied, and a list shows none of what was deleted, but of what came after it.
    async fn mark(&mut self) {
        self.changes += 1;
        let metadata = json!({"name": "marker", "annotations": {"changes": self.changes.to_string()}});
        let nobody = json!({"matchLabels": {"nobody": "has-this"}});
        let mut marks = vec![
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
                "spec": {"podSelector": nobody}}),
            json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                "metadata": metadata,
                "spec": {"tier": "Baseline", "priority": 1000, "subject": {"namespaces": nobody}}}),
        ];
        marks[0]["metadata"]["namespace"] = "default".into();
        for outcome in kilter_cluster::apply(self.session.client(), &marks).await.unwrap() {
            outcome.unwrap();
        }
    }

    /// The trials of a fresh list, once what it shows is in every node's kernel.
    pub async fn trials(&self) -> Vec<Trial> {
        plan(&self.session.settled().await.unwrap(), self.session.routing())
    }

    /// What packets and model disagree about. Silence is asked once more: a packet may be lost; nothing
    /// else may.
    pub async fn disagreements(&mut self, trials: Vec<Trial>) -> Vec<Judged> {
        let judged = self.session.attempt(trials).await.unwrap();
        let wrong: Vec<Judged> = judged.into_iter().filter(|judged| judged.finding.is_some()).collect();
        let (again, mut wrong): (Vec<_>, Vec<_>) = wrong.into_iter().partition(is_silence);
        if !again.is_empty() {
            self.repeated += again.len();
            let trials = again.into_iter().map(|judged| judged.trial).collect();
            let judged = self.session.attempt(trials).await.unwrap();
            wrong.extend(judged.into_iter().filter(|judged| judged.finding.is_some()));
        }
        wrong
    }
}

fn is_silence(judged: &Judged) -> bool {
    matches!(judged.finding, Some(Finding::AllowedButNotAnswered | Finding::SilenceWithoutDrop))
}

fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}
