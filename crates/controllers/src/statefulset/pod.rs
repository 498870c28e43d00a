//! A numbered pod and its volume claims.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use kube::ResourceExt;

use crate::Error;
use crate::template::{self, REVISION_HASH};

/// The pod of a number, of a template and the revision that records it.
pub(super) fn pod(
    set: &StatefulSet,
    of: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Result<Pod, Error> {
    let name = format!("{}-{ordinal}", set.name_any());
    let namespace = set.namespace().unwrap_or_default();
    let mut pod = template::pod(of, &namespace, name.clone(), template::owner_of(set)?);
    template::label(&mut pod, "statefulset.kubernetes.io/pod-name", name.as_str());
    template::label(&mut pod, "apps.kubernetes.io/pod-index", ordinal.to_string());
    template::label(&mut pod, REVISION_HASH, revision);
    let volumes = claims(set, ordinal).map(|(volume, claim)| Volume {
        name: volume,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.name_any(),
            read_only: None,
        }),
        ..Default::default()
    });
    let volumes: Vec<Volume> = volumes.collect();
    let own = template::spec(&mut pod);
    own.hostname = Some(name);
    own.subdomain = set.spec.service_name.clone().filter(|s| !s.is_empty());
    if !volumes.is_empty() {
        let others = own.volumes.take().unwrap_or_default();
        let kept = others.into_iter().filter(|v| volumes.iter().all(|claimed| claimed.name != v.name));
        own.volumes = Some(kept.chain(volumes.iter().cloned()).collect());
    }
    Ok(pod)
}

/// The volume claims of the pod of a number, with the name that containers mount them by. They
/// outlive the pod.
pub(super) fn claims(
    set: &StatefulSet,
    ordinal: i32,
) -> impl Iterator<Item = (String, PersistentVolumeClaim)> + '_ {
    let labels = set.spec.selector.match_labels.clone().unwrap_or_default();
    set.spec.volume_claim_templates.iter().flatten().map(move |template| {
        let mut claim = template.clone();
        let volume = template.name_any();
        claim.metadata.name = Some(format!("{volume}-{}-{ordinal}", set.name_any()));
        claim.metadata.namespace = set.namespace();
        claim.labels_mut().extend(labels.clone());
        claim.status = None;
        (volume, claim)
    })
}
