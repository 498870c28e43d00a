//! The templates that a StatefulSet or DaemonSet has had, as ControllerRevisions: `kubectl rollout
//! history` and `undo` read them, and a partitioned StatefulSet goes on making pods of the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use serde_json::json;

use crate::context::Context;
use crate::template::{self, REVISION_HASH};
use crate::verbs::Object;
use crate::{Error, verbs};

/// Revisions kept where the owner does not say.
pub(crate) const HISTORY_LIMIT: i32 = 10;

/// The revision of an owner's present template: made if need be, and with the highest number.
pub(crate) async fn present<K: Object>(
    context: &Context,
    owner: &K,
    template: &PodTemplateSpec,
) -> Result<Arc<ControllerRevision>, Error> {
    let all = context.revisions.owned_by(&owner.uid().unwrap_or_default());
    let last = all.iter().filter_map(|r| r.revision).max().unwrap_or(0);
    let hash = template::hash(template, 0);
    let Some(found) = all.into_iter().find(|r| r.labels().get(REVISION_HASH) == Some(&hash)) else {
        let revision = new(owner, template, &hash, last + 1)?;
        return Ok(Arc::new(verbs::create(&context.client, &revision).await?));
    };
    if found.revision == Some(last) {
        return Ok(found);
    }
    let patch = json!({"metadata": {"resourceVersion": found.resource_version()}, "revision": last + 1});
    Ok(Arc::new(verbs::merge(&context.client, &*found, patch).await?))
}

fn new<K: Object>(
    owner: &K,
    template: &PodTemplateSpec,
    hash: &str,
    revision: i64,
) -> Result<ControllerRevision, Error> {
    // A patch of the owner, as `kubectl rollout undo` applies it.
    let mut data = json!({"spec": {"template": template}});
    data["spec"]["template"]["$patch"] = "replace".into();
    let mut labels: BTreeMap<_, _> =
        template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(REVISION_HASH.into(), hash.into());
    Ok(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name_any())),
            namespace: owner.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![template::owner_of(owner)?]),
            ..Default::default()
        },
        data: RawExtension(data),
        revision: Some(revision),
    })
}

/// The template that a revision, named as on a pod, recorded.
pub(crate) fn template_of(
    context: &Context,
    owner: &impl kube::Resource,
    name: &str,
) -> Option<PodTemplateSpec> {
    let all = context.revisions.owned_by(&owner.uid().unwrap_or_default());
    let found = all.into_iter().find(|r| r.name_any() == name)?;
    serde_json::from_value(found.data.0.pointer("/spec/template")?.clone()).ok()
}

/// Deletes the oldest revisions beyond `limit`, except those in use, given by hash.
pub(crate) async fn forget(
    context: &Context,
    owner: &impl kube::Resource,
    limit: i32,
    in_use: &BTreeSet<String>,
) -> Result<(), Error> {
    let all = context.revisions.owned_by(&owner.uid().unwrap_or_default());
    let used =
        |r: &ControllerRevision| r.labels().get(REVISION_HASH).is_some_and(|hash| in_use.contains(hash));
    let mut unused: Vec<_> = all.into_iter().filter(|r| !used(r)).collect();
    unused.sort_by_key(|r| r.revision);
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in unused.iter().take(surplus) {
        verbs::delete(&context.client, &**revision, None).await?;
    }
    Ok(())
}
