//! Strategic merge patch: each case by its expected outcome, and all of them by kubectl, whose
//! `patch --local` runs the code of the API server.

use std::process::{Command, Stdio};

use kilter_objects::patch;
use serde_json::{Value, json};

struct Case {
    what: &'static str,
    target: Value,
    patch: Value,
    expected: Value,
    /// Kubernetes itself gets this wrong; the case says how it should be.
    beyond_kubectl: bool,
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"template": {"spec": spec}}})
}

fn pod_case(what: &'static str, target: Value, patch: Value, expected: Value) -> Case {
    Case {
        what,
        target: deployment(target),
        patch: json!({"spec": {"template": {"spec": patch}}}),
        expected: deployment(expected),
        beyond_kubectl: false,
    }
}

fn service_case(what: &'static str, target: Value, patch: Value, expected: Value) -> Case {
    let service =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": spec});
    Case {
        what,
        target: service(target),
        patch: json!({"spec": patch}),
        expected: service(expected),
        beyond_kubectl: false,
    }
}

fn cases() -> Vec<Case> {
    let ab = json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]);
    let env = |items: Value| json!({"containers": [{"name": "a", "env": items}]});
    let policy = |from: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"},
               "spec": {"podSelector": {}, "ingress": [{"from": from}]}})
    };
    let mut all = vec![
        pod_case(
            "containers merge by name, in the order of the patch",
            json!({"containers": ab}),
            json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:2"}]}),
            json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:2"}, {"name": "b", "image": "b:1"}]}),
        ),
        pod_case(
            "a deleted item goes",
            json!({"containers": ab}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "b:1"}]}),
        ),
        pod_case(
            "a list is replaced on demand",
            json!({"containers": ab}),
            json!({"containers": [{"$patch": "replace"}, {"name": "c", "image": "c:1"}]}),
            json!({"containers": [{"name": "c", "image": "c:1"}]}),
        ),
        pod_case(
            "the order of elements is as the directive says",
            json!({"containers": ab}),
            json!({"containers": [{"name": "c", "image": "c:1"}],
                   "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "b", "image": "b:1"}, {"name": "a", "image": "a:1"}]}),
        ),
        pod_case(
            "an order alone moves what is there",
            json!({"containers": ab}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "b", "image": "b:1"}, {"name": "a", "image": "a:1"}]}),
        ),
        pod_case(
            "variables merge by name and can go",
            env(json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])),
            env(
                json!([{"name": "B", "$patch": "delete"}, {"name": "A", "value": "3"}, {"name": "C", "value": "4"}]),
            ),
            env(json!([{"name": "A", "value": "3"}, {"name": "C", "value": "4"}])),
        ),
        pod_case(
            "null removes a field",
            json!({"containers": [{"name": "a", "image": "a:1", "command": ["x"]}]}),
            json!({"containers": [{"name": "a", "command": null}]}),
            json!({"containers": [{"name": "a", "image": "a:1"}]}),
        ),
        pod_case(
            "tolerations are replaced as a whole",
            json!({"containers": ab, "tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"containers": ab, "tolerations": [{"key": "b"}]}),
        ),
        pod_case(
            "arguments are replaced as a whole",
            json!({"containers": [{"name": "a", "args": ["x", "y"]}]}),
            json!({"containers": [{"name": "a", "args": ["z"]}]}),
            json!({"containers": [{"name": "a", "args": ["z"]}]}),
        ),
        pod_case(
            "an object is replaced on demand",
            json!({"containers": ab, "nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"$patch": "replace", "c": "3"}}),
            json!({"containers": ab, "nodeSelector": {"c": "3"}}),
        ),
        pod_case(
            "of a union only the retained keys stay",
            json!({"containers": ab, "volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}),
            json!({"containers": ab, "volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
        ),
        pod_case(
            "mounts merge by path",
            json!({"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/a", "name": "v"}]}]}),
            json!({"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/a", "readOnly": true}, {"mountPath": "/b", "name": "v"}]}]}),
            json!({"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/a", "name": "v", "readOnly": true}, {"mountPath": "/b", "name": "v"}]}]}),
        ),
        pod_case(
            "a new container comes without directives, before those the patch does not name",
            json!({"containers": ab}),
            json!({"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}], "command": null}]}),
            json!({"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}, {"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}),
        ),
        service_case(
            "Service ports merge by number",
            json!({"ports": [{"port": 80, "name": "http"}, {"port": 443, "name": "https"}]}),
            json!({"ports": [{"port": 80, "targetPort": 8080}]}),
            json!({"ports": [{"port": 80, "name": "http", "targetPort": 8080}, {"port": 443, "name": "https"}]}),
        ),
        service_case(
            "a port may change its protocol",
            json!({"ports": [{"port": 80, "protocol": "TCP"}]}),
            json!({"ports": [{"port": 80, "protocol": "UDP"}]}),
            json!({"ports": [{"port": 80, "protocol": "UDP"}]}),
        ),
        Case {
            what: "peers of a policy are replaced as a whole",
            target: policy(json!([{"podSelector": {}}])),
            patch: json!({"spec": {"ingress": [{"from": [{"namespaceSelector": {}}]}]}}),
            expected: policy(json!([{"namespaceSelector": {}}])),
            beyond_kubectl: false,
        },
        Case {
            what: "finalizers are a set",
            target: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "finalizers": ["a/a", "b/b"]}}),
            patch: json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"], "finalizers": ["b/b", "c/c"],
                           "$setElementOrder/finalizers": ["b/b", "c/c"]}}),
            expected: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "finalizers": ["b/b", "c/c"]}}),
            beyond_kubectl: false,
        },
        Case {
            what: "conditions merge by type",
            target: json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "status": {"conditions": [
                {"type": "Ready", "status": "False"}, {"type": "Initialized", "status": "True"}]}}),
            patch: json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            expected: json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "status": {"conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}}),
            beyond_kubectl: false,
        },
    ];
    let two = json!([{"port": 53, "protocol": "UDP", "name": "dns"}, {"port": 53, "protocol": "TCP", "name": "dns-tcp"}]);
    all.push(Case {
        beyond_kubectl: true,
        ..service_case(
            "one number with two protocols is two ports",
            json!({"ports": two}),
            json!({"ports": [{"port": 53, "protocol": "TCP", "targetPort": 5353}]}),
            json!({"ports": [{"port": 53, "protocol": "UDP", "name": "dns"},
                             {"port": 53, "protocol": "TCP", "name": "dns-tcp", "targetPort": 5353}]}),
        )
    });
    all
}

#[test]
fn patches_apply_as_expected() {
    for case in cases() {
        let mut target = case.target.clone();
        patch::strategic(&mut target, &case.patch).unwrap_or_else(|e| panic!("{}: {e}", case.what));
        assert_eq!(target, case.expected, "{}", case.what);
    }
}

#[test]
fn kubectl_agrees() {
    if !has_kubectl() {
        assert!(std::env::var_os("CI").is_none(), "kubectl is not installed");
        eprintln!("kubectl is not installed: not run");
        return;
    }
    for case in cases().iter().filter(|c| !c.beyond_kubectl) {
        let theirs = kubectl(&case.target, &case.patch);
        assert_eq!(without_nulls(theirs), case.expected, "{}", case.what);
    }
}

#[test]
fn malformed_patches_change_nothing() {
    let target = deployment(json!({"containers": [{"name": "a"}]}));
    for (patch, expected) in [
        (
            json!({"spec": {"$patch": "remove"}}),
            "spec: $patch is \"remove\"; it may be merge, replace or delete",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}}),
            "spec.template.spec.containers[0]: needs name, by which items of this list are matched",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": ["a"]}}}}),
            "spec.template.spec.containers[0]: expected an object",
        ),
        (json!([1]), "both the object and the patch must be objects"),
    ] {
        let mut patched = target.clone();
        let error = patch::strategic(&mut patched, &patch).unwrap_err().to_string();
        assert_eq!(error, format!("not a strategic merge patch: {expected}"));
        assert_eq!(patched, target);
    }
}

fn has_kubectl() -> bool {
    Command::new(kubectl_program())
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The kubectl to compare with: `KUBECTL`, or the one on the path.
fn kubectl_program() -> std::ffi::OsString {
    std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into())
}

fn kubectl(target: &Value, patch: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("target.json");
    std::fs::write(&file, target.to_string()).unwrap();
    let output = Command::new(kubectl_program())
        .args(["patch", "--local", "--type", "strategic", "-o", "json", "-p", &patch.to_string(), "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{patch}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// kubectl writes the fields of Go's types that are always present (`creationTimestamp: null`,
/// empty structures); a case never has them.
fn without_nulls(mut value: Value) -> Value {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(clean);
                for key in ["resources", "strategy", "status", "loadBalancer"] {
                    if fields.get(key).is_some_and(|v| v.as_object().is_some_and(serde_json::Map::is_empty)) {
                        fields.remove(key);
                    }
                }
                if fields.contains_key("template") && fields.get("selector") == Some(&Value::Null) {
                    fields.remove("selector");
                }
                if let Some(Value::Object(metadata)) = fields.get("metadata")
                    && metadata.is_empty()
                {
                    fields.remove("metadata");
                }
                fields.retain(|_, v| !v.is_null());
            }
            Value::Array(items) => items.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut value);
    value
}
