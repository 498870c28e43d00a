//! ReplicaSets as the history of a Deployment: how one is made for a template, found again, numbered
//! (`kubectl rollout history` and `undo` go by that) and forgotten.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::json;

use super::{Deployments, Seen, rollout};
use crate::cache::{controller_uid, key};
use crate::replicaset::desired;
use crate::template::{self, TEMPLATE_HASH};
use crate::{Error, verbs};

const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Old ReplicaSets that are kept where the Deployment does not say.
const HISTORY_LIMIT: i32 = 10;

/// Whether a ReplicaSet is that of the Deployment's present template.
pub(super) fn is_of(rs: &ReplicaSet, deployment: &Deployment) -> bool {
    // By the hash as well: the API may have filled in defaults of a ReplicaSet that its
    // Deployment, written to an older API, does not have.
    rs.labels().get(TEMPLATE_HASH) == Some(&hash(deployment))
        || rs.spec.template.as_ref().is_some_and(|t| template::same(t, &deployment.spec.template))
}

fn hash(deployment: &Deployment) -> String {
    template::hash(
        &deployment.spec.template,
        deployment.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0),
    )
}

/// The annotations by which a ReplicaSet knows its Deployment's size.
pub(super) fn sizes(seen: &Seen) -> BTreeMap<String, String> {
    let most = seen.desired() + rollout::surge(seen);
    BTreeMap::from([(DESIRED.into(), seen.desired().to_string()), (MAX.into(), most.to_string())])
}

fn revision(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// What of a Deployment's annotations its ReplicaSets carry (`kubernetes.io/change-cause` above
/// all): all but those that describe the object itself.
fn inherited(deployment: &Deployment) -> BTreeMap<String, String> {
    let own = ["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAX];
    let annotations = deployment.annotations().iter().filter(|(k, _)| !own.contains(&k.as_str()));
    annotations.map(|(k, v)| (k.clone(), v.clone())).collect()
}

impl Deployments {
    /// Sees to it that the present template has its ReplicaSet, and that this bears the highest
    /// number. `true`: something was changed.
    pub(super) async fn make_new(&self, seen: &Seen) -> Result<bool, Error> {
        let last = seen.old.iter().map(|rs| revision(rs.annotations())).max().unwrap_or(0);
        let Some(new) = &seen.new else {
            self.create(seen, last + 1).await?;
            return Ok(true);
        };
        let number = revision(new.annotations());
        if number <= last {
            self.renumber(seen, new, last + 1).await?;
            return Ok(true);
        }
        if revision(seen.deployment.annotations()) != number {
            let patch = json!({"metadata": {"annotations": {REVISION: number.to_string()}}});
            verbs::merge(&self.context.client, &*seen.deployment, patch).await?;
        }
        Ok(false)
    }

    async fn create(&self, seen: &Seen, number: i64) -> Result<(), Error> {
        let hash = hash(&seen.deployment);
        let mut rs = replica_set(seen, &hash)?;
        let annotations = rs.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.into(), number.to_string());
        match verbs::create(&self.context.client, &rs).await {
            Ok(_) => {
                self.record_scaling(seen, &rs, 0, desired(&rs));
                Ok(())
            }
            Err(error) if error.is_already_exists() => self.collided(seen, &rs, error.into()).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The name is taken: by our own ReplicaSet, which the cache has not seen yet, or by another
    /// template with the same hash, against which the Deployment counts its collisions.
    async fn collided(&self, seen: &Seen, rs: &ReplicaSet, error: Error) -> Result<(), Error> {
        let Some(there) = self.context.replica_sets.get(&key(rs)) else { return Err(error) };
        if is_of(&there, &seen.deployment) && controller_uid(&*there) == seen.deployment.uid().as_deref() {
            return Err(error);
        }
        let count = seen.deployment.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let status = json!({"collisionCount": count + 1});
        verbs::merge_status(&self.context.client, &*seen.deployment, status).await?;
        Ok(())
    }

    /// An old template is the present one again (`kubectl rollout undo`).
    async fn renumber(&self, seen: &Seen, rs: &ReplicaSet, number: i64) -> Result<(), Error> {
        let mut annotations = inherited(&seen.deployment);
        let former = rs.annotations().get(REVISION_HISTORY).into_iter().chain(rs.annotations().get(REVISION));
        annotations.insert(REVISION_HISTORY.into(), former.cloned().collect::<Vec<_>>().join(","));
        annotations.insert(REVISION.into(), number.to_string());
        verbs::merge(&self.context.client, rs, json!({"metadata": {"annotations": annotations}})).await?;
        Ok(())
    }

    /// Deletes the oldest empty ReplicaSets beyond the limit.
    pub(super) async fn forget_history(&self, seen: &Seen) -> Result<(), Error> {
        let limit = usize::try_from(seen.spec().revision_history_limit.unwrap_or(HISTORY_LIMIT)).unwrap_or(0);
        let mut empty: Vec<_> =
            seen.old.iter().filter(|rs| rs.metadata.deletion_timestamp.is_none() && is_empty(rs)).collect();
        empty.sort_by_key(|rs| revision(rs.annotations()));
        for rs in empty.iter().take(seen.old.len().saturating_sub(limit)) {
            verbs::delete(&self.context.client, &***rs, None).await?;
        }
        Ok(())
    }
}

/// Whether a ReplicaSet wants no pods, has none, and has said so since it was last changed.
fn is_empty(rs: &ReplicaSet) -> bool {
    let Some(status) = &rs.status else { return false };
    desired(rs) == 0 && status.replicas == 0 && status.observed_generation >= rs.metadata.generation
}

/// The ReplicaSet of the present template, in the size in which it starts.
fn replica_set(seen: &Seen, hash: &str) -> Result<ReplicaSet, Error> {
    let with_hash = |mut labels: BTreeMap<String, String>| {
        labels.insert(TEMPLATE_HASH.into(), hash.into());
        labels
    };
    let mut template = seen.spec().template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels = Some(with_hash(meta.labels.take().unwrap_or_default()));
    let mut selector = seen.spec().selector.clone();
    selector.match_labels = Some(with_hash(selector.match_labels.take().unwrap_or_default()));
    let mut annotations = inherited(&seen.deployment);
    annotations.extend(sizes(seen));
    Ok(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", seen.deployment.name_any())),
            namespace: seen.deployment.namespace(),
            labels: meta.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![template::owner_of(&*seen.deployment)?]),
            ..Default::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(rollout::first_size(seen)),
            min_ready_seconds: seen.spec().min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    })
}
