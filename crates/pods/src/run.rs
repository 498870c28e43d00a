//! What stands for a container: a stand-in, or its command run for real. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

/// The annotation that says it for all containers of a pod; for one it is followed by a dot and
/// the container's name.
const ANNOTATION: &str = "kilter.dev/run";

/// What a pod's annotations ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    all: Option<String>,
    /// By container, whether it runs for real; an error where the value means nothing.
    each: BTreeMap<String, Result<bool, String>>,
    /// Containers that are named but do not exist.
    strangers: Vec<String>,
}

impl Runs {
    /// Reads `kilter.dev/run` and `kilter.dev/run.CONTAINER`.
    pub fn of(pod: &Pod) -> Self {
        let mut runs = Self { all: pod.annotations().get(ANNOTATION).cloned(), ..Self::default() };
        let names: Vec<&str> = containers(pod).map(|container| container.name.as_str()).collect();
        for (key, value) in pod.annotations() {
            let Some(container) = key.strip_prefix(ANNOTATION).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            if !names.contains(&container) {
                runs.strangers.push(format!(
                    "annotation {key}: this pod has no container {container:?}; it has {}",
                    names.join(", ")
                ));
            }
            let real = match value.as_str() {
                "process" => Ok(true),
                "stand-in" => Ok(false),
                other => Err(format!("annotation {key}: {other:?} means nothing; what does: process, stand-in")),
            };
            runs.each.insert(container.to_owned(), real);
        }
        runs
    }

    /// Whether a container's command is run on this machine.
    pub fn is_real(&self, container: &str) -> bool {
        match self.each.get(container) {
            Some(each) => *each == Ok(true),
            None => self.all.as_deref() == Some("process"),
        }
    }

    /// What the node process does itself for the whole pod: `dns`.
    pub fn builtin(&self) -> Option<&str> {
        self.all.as_deref().filter(|all| !matches!(*all, "process" | "stand-in"))
    }

    /// Why a container cannot be started at all.
    pub fn refusal(&self, container: &str) -> Option<&str> {
        self.each.get(container)?.as_ref().err().map(String::as_str)
    }

    /// Annotations about containers that do not exist.
    pub fn strangers(&self) -> &[String] {
        &self.strangers
    }
}

/// When a stand-in ends by itself, and with which code: that of a Job's pod has its work done at
/// once.
pub fn exit(pod: &Pod) -> Option<(Duration, i32)> {
    let job = pod.owner_references().iter().any(|owner| owner.kind == "Job" && owner.controller == Some(true));
    job.then_some((Duration::ZERO, 0))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn runs(annotations: serde_json::Value) -> Runs {
        let spec = json!({"initContainers": [{"name": "setup"}], "containers": [{"name": "web"}]});
        Runs::of(&serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": spec})).unwrap())
    }

    #[test]
    fn a_container_follows_its_own_annotation_then_its_pods() {
        let table = [
            (json!({}), [false, false], None),
            (json!({"kilter.dev/run": "process"}), [true, true], None),
            (json!({"kilter.dev/run": "stand-in"}), [false, false], None),
            (json!({"kilter.dev/run.web": "process"}), [false, true], None),
            (json!({"kilter.dev/run": "process", "kilter.dev/run.setup": "stand-in"}), [false, true], None),
            (json!({"kilter.dev/run": "dns"}), [false, false], Some("dns")),
        ];
        for (annotations, expected, builtin) in table {
            let found = runs(annotations.clone());
            assert_eq!(["setup", "web"].map(|name| found.is_real(name)), expected, "{annotations}");
            assert_eq!(found.builtin(), builtin, "{annotations}");
        }
    }

    #[test]
    fn what_means_nothing_is_said_with_what_does() {
        let found = runs(json!({"kilter.dev/run.web": "proces", "kilter.dev/run.wbe": "process"}));
        assert_eq!(
            found.refusal("web"),
            Some("annotation kilter.dev/run.web: \"proces\" means nothing; what does: process, stand-in")
        );
        assert_eq!(
            found.strangers(),
            ["annotation kilter.dev/run.wbe: this pod has no container \"wbe\"; it has setup, web"]
        );
    }
}
