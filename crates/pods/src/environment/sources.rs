use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::{Api, Client, ResourceExt};

/// An object that holds keys and values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A ConfigMap of this name.
    ConfigMap(String),
    /// A Secret of this name.
    Secret(String),
}

impl fmt::Display for Source {
    /// As in the kubelet's messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "configmap {name:?}"),
            Self::Secret(name) => write!(f, "secret {name:?}"),
        }
    }
}

type Values = BTreeMap<String, Vec<u8>>;

/// The ConfigMaps and Secrets that something refers to, as they were when they were fetched.
#[derive(Debug, Default)]
pub struct Sources {
    found: BTreeMap<Source, Values>,
    /// Those that the API could not be asked for.
    failed: BTreeMap<Source, String>,
}

impl Sources {
    /// What a container's environment refers to.
    pub async fn fetch(client: &Client, pod: &Pod, container: &Container) -> Self {
        Self::fetch_all(client, pod, of_environment(container)).await
    }

    /// These, of the pod's namespace.
    pub async fn fetch_all(client: &Client, pod: &Pod, wanted: BTreeSet<Source>) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let mut sources = Self::default();
        for source in wanted {
            match fetch(client, &namespace, &source).await {
                Ok(Some(values)) => drop(sources.found.insert(source, values)),
                Ok(None) => {}
                Err(error) => drop(sources.failed.insert(source, crate::error_chain(&error))),
            }
        }
        sources
    }

    /// All keys of one.
    pub fn values(&self, source: &Source) -> Result<&Values, String> {
        if let Some(why) = self.failed.get(source) {
            return Err(format!("failed to fetch {source}: {why}"));
        }
        self.found.get(source).ok_or_else(|| format!("{source} not found"))
    }

    /// One key of one.
    pub fn value(&self, source: &Source, key: &str) -> Result<&[u8], String> {
        let found = self.values(source)?.get(key);
        found.map(Vec::as_slice).ok_or_else(|| format!("couldn't find key {key} in {source}"))
    }

    #[cfg(test)]
    pub(super) fn with(source: Source, values: &[(&str, &str)]) -> Self {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        Self { found: BTreeMap::from([(source, values.collect())]), failed: BTreeMap::new() }
    }
}

async fn fetch(client: &Client, namespace: &str, source: &Source) -> kube::Result<Option<Values>> {
    Ok(match source {
        Source::ConfigMap(name) => {
            let found = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await?;
            found.map(|map| {
                let texts = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
                texts.chain(map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0))).collect()
            })
        }
        Source::Secret(name) => {
            let found = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
            found.map(|secret| secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect())
        }
    })
}

fn of_environment(container: &Container) -> BTreeSet<Source> {
    let mut wanted = BTreeSet::new();
    for from in container.env_from.iter().flatten() {
        wanted.extend(from.config_map_ref.as_ref().map(|it| Source::ConfigMap(it.name.clone())));
        wanted.extend(from.secret_ref.as_ref().map(|it| Source::Secret(it.name.clone())));
    }
    for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        wanted.extend(from.config_map_key_ref.as_ref().map(|it| Source::ConfigMap(it.name.clone())));
        wanted.extend(from.secret_key_ref.as_ref().map(|it| Source::Secret(it.name.clone())));
    }
    wanted
}
