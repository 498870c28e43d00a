use futures::{StreamExt, TryStreamExt, stream};
use kilter_model::Origin;
use kilter_objects::kinds::{KINDS, Kind};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::Error;
use crate::resource::origin;

/// Kinds that say what somebody wants of the network.
const WANTED: [&str; 11] = [
    "ClusterNetworkPolicy",
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Ingress",
    "Job",
    "Namespace",
    "NetworkPolicy",
    "Pod",
    "Service",
    "StatefulSet",
];

/// What people declared, as far as the network goes: objects that no other object controls, without
/// those of the system's own namespaces.
///
/// # Errors
/// An API that does not answer. A kind that it does not serve has no objects.
pub async fn declared(client: &Client) -> Result<Vec<(Value, Origin)>, Error> {
    let kinds = KINDS.iter().filter(|it| WANTED.contains(&it.kind));
    let lists = stream::iter(kinds).map(|it| list(client, it)).buffered(WANTED.len());
    let all: Vec<Vec<(Value, Origin)>> = lists.try_collect().await?;
    Ok(all.into_iter().flatten().collect())
}

async fn list(client: &Client, kind: &Kind) -> Result<Vec<(Value, Origin)>, Error> {
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let answer = api.list(&ListParams::default()).await;
    let objects = match answer.map_err(|e| Error::from_kube(format!("list {}", kind.plural), e)) {
        Err(error) if error.is_not_found() => return Ok(vec![]),
        other => other?.items,
    };
    let own = objects.into_iter().filter(|it| !is_systems(it) && it.owner_references().is_empty());
    Ok(own.filter_map(|it| Some((value(kind, &it)?, origin(&it)))).collect())
}

fn is_systems(object: &DynamicObject) -> bool {
    let name = object.namespace().unwrap_or_else(|| object.name_any());
    ["kube-system", "kube-public", "kube-node-lease"].contains(&&*name)
}

/// Items of a list do not say of what kind they are.
fn value(kind: &Kind, object: &DynamicObject) -> Option<Value> {
    let mut value = serde_json::to_value(object).ok()?;
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.kind.into();
    Some(value)
}
