use std::fmt::Debug;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kilter_model::{Cluster, Event};
use kilter_objects::ClusterNetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use crate::lean::Lean;
use crate::Error;
use crate::resource::{Watched, origin};

/// A page of a list; as the watches ask for.
const PAGE: u32 = 500;

/// A fresh list of everything that the model holds, not through any watch or cache of ours. The
/// kinds are listed one after another's start: each list is consistent in itself.
pub fn snapshot(client: &Client) -> BoxFuture<'_, Result<Cluster, Error>> {
    Box::pin(list_all(client))
}

async fn list_all(client: &Client) -> Result<Cluster, Error> {
    let (pods, namespaces, nodes, policies, cluster_policies, services, slices) = tokio::try_join!(
        list::<Lean<Pod>>(client),
        list::<Namespace>(client),
        list::<Node>(client),
        list::<NetworkPolicy>(client),
        list::<ClusterNetworkPolicy>(client),
        list::<Service>(client),
        list::<EndpointSlice>(client),
    )?;
    let kinds = [pods, namespaces, nodes, policies, cluster_policies, services, slices];
    Ok(Cluster::from_events(kinds.into_iter().flatten()))
}

async fn list<K>(client: &Client) -> Result<Vec<Event>, Error>
where
    K: Watched + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut events = Vec::new();
    loop {
        let page = match api.list(&params).await {
            Err(kube::Error::Api(status)) if status.code == 404 && K::RESOURCE.is_optional() => {
                return Ok(events);
            }
            page => page.map_err(|e| Error::from_kube(format!("list {}", K::RESOURCE), e))?,
        };
        for object in &page.items {
            events.extend(object.event(origin(object)).map_err(|source| {
                let name = object.name_any();
                let namespace = object.namespace().unwrap_or_default();
                Error::Object { what: format!("{} {namespace}/{name}", K::RESOURCE), source }
            })?);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(events),
        }
    }
}
