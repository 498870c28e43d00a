//! The node's Lease: a small sign of life, often. The node's status is large and watched by
//! everybody, so that it is renewed seldom (KEP-589).

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;

/// Where the Leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";
/// For how long a renewal is good; a quarter of that passes between two.
const GOOD_FOR: Duration = Duration::from_secs(40);

/// Renews it for ever.
pub(crate) async fn keep(client: &Client, node: &str) {
    loop {
        if let Err(error) = renew(client, node).await {
            tracing::debug!(%error, "renew the node's lease; trying again");
        }
        tokio::time::sleep(GOOD_FOR / 4).await;
    }
}

async fn renew(client: &Client, node: &str) -> kube::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let patch = Patch::Merge(json!({"spec": {"holderIdentity": node, "renewTime": now}}));
    match leases.patch(node, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => make(client, &leases, node, now).await,
        renewed => renewed.map(drop),
    }
}

/// It goes with its node.
async fn make(client: &Client, leases: &Api<Lease>, node: &str, now: MicroTime) -> kube::Result<()> {
    let owner = Api::<Node>::all(client.clone()).get(node).await?.owner_ref(&());
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..Default::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(GOOD_FOR.as_secs() as i32),
            renew_time: Some(now),
            ..Default::default()
        }),
    };
    leases.create(&PostParams::default(), &lease).await.map(drop)
}
