//! Pods from templates: hashes that tell templates apart, and names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::Error;

/// On Deployments' ReplicaSets and their pods.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

/// On the pods of StatefulSets and DaemonSets.
pub(crate) const REVISION_HASH: &str = "controller-revision-hash";

/// The letters of generated names: those of Kubernetes, among which no words can form.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest prefix of a generated pod name (`names.maxGeneratedNameLength`).
const MAX_BASE: usize = 58;

/// A hash of a template, fit for names and labels. `collisions` gives another one to a template
/// whose hash another has.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    // Typed, so that the order of fields is fixed. Plain data of our own making always encodes.
    let text = serde_json::to_vec(&(template, collisions)).unwrap_or_default();
    let fnv = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    letters(u64::from(text.iter().fold(0x811c_9dc5, fnv)), 7)
}

/// Whether two templates are the same but for the hash that their owner put in.
pub(crate) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    hash(a, 0) == hash(b, 0)
}

/// `base` and five random letters.
pub(crate) fn random_name(base: &str) -> String {
    let mut end = base.len().min(MAX_BASE - 1);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    format!("{}-{}", &base[..end], letters(high ^ low, 5))
}

fn letters(mut number: u64, count: usize) -> String {
    let letters = LETTERS.len() as u64;
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        text.push(char::from(LETTERS[(number % letters) as usize]));
        number /= letters;
    }
    text
}

/// A pod of a template.
pub(crate) fn pod(template: &PodTemplateSpec, namespace: &str, name: String, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.into()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: Some(template.spec.clone().unwrap_or_default()),
        status: None,
    }
}

/// The reference to the object that controls what it owns.
pub(crate) fn owner_of<K: kube::Resource<DynamicType = ()>>(owner: &K) -> Result<OwnerReference, Error> {
    owner
        .controller_owner_ref(&())
        .ok_or_else(|| Error::Field { object: K::kind(&()).into_owned(), field: "metadata.uid" })
}

/// Sets a label of a pod to be.
pub(crate) fn label(pod: &mut Pod, key: &str, value: impl Into<String>) {
    pod.metadata.labels.get_or_insert_with(BTreeMap::new).insert(key.into(), value.into());
}

/// The specification of a pod to be.
pub(crate) fn spec(pod: &mut Pod) -> &mut PodSpec {
    pod.spec.get_or_insert_with(PodSpec::default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str, hash: Option<&str>) -> PodTemplateSpec {
        let mut labels = json!({"app": "web"});
        if let Some(hash) = hash {
            labels[TEMPLATE_HASH] = hash.into();
        }
        let spec = json!({"containers": [{"name": "c", "image": image}]});
        serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_hash_sees_the_template_and_not_itself() {
        assert!(same(&template("a", None), &template("a", Some("x"))));
        assert!(!same(&template("a", None), &template("b", None)));
        assert_ne!(hash(&template("a", None), 0), hash(&template("a", None), 1));
    }

    #[test]
    fn names_stay_within_a_label() {
        let name = random_name(&"a".repeat(100));
        assert_eq!(name.len(), 63);
        assert_ne!(random_name("web"), random_name("web"));
    }
}
