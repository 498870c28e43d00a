//! A twin that runs, brought after sources that change.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kilter_cluster::Applied;
use serde::Serialize;
use serde_json::Value;

use crate::paths::Layout;
use crate::up::missing_namespaces;

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Followed {
    /// `Kind namespace/name`.
    pub object: String,
    /// What happened to it.
    pub what: What,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is new.
    Created,
    /// It was different.
    Configured,
    /// It was so already.
    Unchanged,
    /// No source declares it any more.
    Pruned,
    /// The API refused it.
    Refused,
}

/// Group, kind, namespace and name: what makes two declarations one object.
type Identity = (String, String, String, String);

/// Applies what changes between one state of the sources and the next.
pub struct Follower {
    client: kube::Client,
    /// What was declared last, and is in force as far as is known.
    declared: BTreeMap<Identity, Value>,
}

impl Follower {
    /// Of a twin to which these objects have been applied.
    ///
    /// # Errors
    /// A twin that cannot be asked.
    pub async fn new(name: &str, objects: &[Value]) -> Result<Self> {
        let client = kilter_cluster::connect(&Layout::new(name).admin_kubeconfig()).await?;
        Ok(Self { client, declared: by_identity(objects) })
    }

    /// Applies the objects that are new or different, and deletes those that are declared no more.
    /// What the API refuses is tried again with the next change.
    ///
    /// # Errors
    /// An API that cannot be asked at all.
    pub async fn change(&mut self, objects: &[Value]) -> Result<Vec<Followed>> {
        let wanted = by_identity(objects);
        let differs = |id: &Identity, object: &Value| self.declared.get(id) != Some(object);
        let mut changed: Vec<Value> =
            wanted.iter().filter(|(id, object)| differs(id, object)).map(|(_, object)| object.clone()).collect();
        let gone: Vec<(Identity, Value)> =
            self.declared.iter().filter(|(id, _)| !wanted.contains_key(*id)).map(|(id, o)| (id.clone(), o.clone())).collect();
        changed.extend(missing_namespaces(&changed, &self.declared_namespaces(&wanted)));
        let mut told = vec![];
        let applied = kilter_cluster::apply(&self.client, &changed).await.context("apply what changed")?;
        for (object, result) in changed.iter().zip(applied) {
            let (what, why) = match result {
                Ok(Applied::Created) => (What::Created, None),
                Ok(Applied::Configured) => (What::Configured, None),
                Ok(Applied::Unchanged) => (What::Unchanged, None),
                Err(error) => (What::Refused, Some(format!("{:#}", anyhow::Error::from(error)))),
            };
            if what != What::Refused {
                self.declared.insert(identity(object), object.clone());
            }
            told.push(Followed { object: title(object), what, why });
        }
        let objects: Vec<Value> = gone.iter().map(|(_, object)| object.clone()).collect();
        let deleted = kilter_cluster::delete(&self.client, &objects).await.context("delete what is gone")?;
        for ((id, object), result) in gone.iter().zip(deleted) {
            let (what, why) = match result {
                Ok(()) => {
                    self.declared.remove(id);
                    (What::Pruned, None)
                }
                Err(error) => (What::Refused, Some(format!("{:#}", anyhow::Error::from(error)))),
            };
            told.push(Followed { object: title(object), what, why });
        }
        Ok(told)
    }

    /// Namespaces that exist or are about to.
    fn declared_namespaces(&self, wanted: &BTreeMap<Identity, Value>) -> Vec<String> {
        let all = self.declared.values().chain(wanted.values());
        let own = all.clone().filter(|o| o["kind"] == "Namespace").map(|o| o["metadata"]["name"].clone());
        let used = self.declared.values().map(|o| o["metadata"]["namespace"].clone());
        own.chain(used).filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}

fn by_identity(objects: &[Value]) -> BTreeMap<Identity, Value> {
    objects.iter().map(|object| (identity(object), object.clone())).collect()
}

fn identity(object: &Value) -> Identity {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let group = api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let metadata = &object["metadata"];
    (group, text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

fn title(object: &Value) -> String {
    let (_, kind, namespace, name) = identity(object);
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_of_a_kind_are_one_object_and_groups_are_not() {
        let object = |api: &str| json!({"apiVersion": api, "kind": "Event", "metadata": {"namespace": "a", "name": "b"}});
        assert_eq!(identity(&object("events.k8s.io/v1")), identity(&object("events.k8s.io/v1beta1")));
        assert_ne!(identity(&object("events.k8s.io/v1")), identity(&object("v1")));
        assert_eq!(title(&object("v1")), "Event a/b");
    }
}
