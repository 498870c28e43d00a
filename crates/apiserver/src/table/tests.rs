use std::fmt::Write;

use serde_json::json;

use super::*;

/// The table as `kubectl get -o wide` would print it, one row per object.
fn print(group: &str, plural: &str, objects: &[Value]) -> String {
    let resource = Resource::all().iter().find(|r| r.kind.group == group && r.kind.plural == plural);
    let resource = resource.expect("served");
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
    let mut out = String::new();
    let columns = columns(resource);
    let shown = columns.as_array().into_iter().flatten().map(|c| match c["priority"] == 1 {
        true => format!("({})", c["name"].as_str().unwrap_or_default()),
        false => c["name"].as_str().unwrap_or_default().to_owned(),
    });
    writeln!(out, "{}", shown.collect::<Vec<_>>().join(" | ")).expect("written");
    for object in objects {
        let mut object = object.clone();
        object["kind"] = resource.kind.kind.into();
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:57:45Z".into();
        let row = row(resource, object, Include::None, now);
        let cells = row["cells"].as_array().expect("cells");
        assert_eq!(cells.len(), columns.as_array().expect("columns").len(), "{plural}");
        let cells = cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join(" | ")).expect("written");
    }
    out
}

fn named(name: &str, rest: Value) -> Value {
    let mut value = rest;
    value["metadata"]["name"] = name.into();
    value
}

#[test]
fn pods() {
    let containers = json!([{"name": "a"}, {"name": "b"}]);
    let running = json!({"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}}});
    let waiting = json!({"name": "b", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    let done = json!({"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let pods = [
        named("pending", json!({"spec": {"containers": containers}, "status": {"phase": "Pending"}})),
        named(
            "half",
            json!({"spec": {"containers": containers, "nodeName": "node-1"},
            "status": {"phase": "Running", "podIP": "10.244.0.2", "containerStatuses": [running, waiting]}}),
        ),
        named(
            "leaving",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:59Z"},
            "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running", "containerStatuses": [running]}}),
        ),
        named(
            "done",
            json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Succeeded", "containerStatuses": [done]}}),
        ),
        named(
            "starting",
            json!({"spec": {"containers": containers, "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}}),
        ),
        named(
            "broken",
            json!({"spec": {"containers": containers, "initContainers": [{"name": "i"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}}]}}),
        ),
        named(
            "sidecar",
            json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i", "restartPolicy": "Always"}],
            "readinessGates": [{"conditionType": "x"}]},
            "status": {"phase": "Running", "containerStatuses": [running],
                "initContainerStatuses": [{"name": "i", "started": true, "ready": true, "state": {"running": {}}}]}}),
        ),
    ];
    insta::assert_snapshot!(print("", "pods", &pods));
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "web", "image": "shop/web:1"}, {"name": "log", "image": "log"}]}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let status = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1});
    let object = named("web", json!({"spec": spec, "status": status}));
    let daemon = named(
        "dns",
        json!({"spec": {"selector": {"matchLabels": {"k8s-app": "kube-dns"}}, "template": template},
        "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberReady": 2, "updatedNumberScheduled": 3}}),
    );
    let job = named(
        "once",
        json!({"spec": {"completions": 1, "template": template, "selector": {}},
        "status": {"succeeded": 1, "startTime": "2026-01-01T00:58:00Z", "completionTime": "2026-01-01T00:58:30Z",
            "conditions": [{"type": "Complete", "status": "True"}]}}),
    );
    let cron = named(
        "nightly",
        json!({"spec": {"schedule": "0 3 * * *"}, "status": {"active": [{}], "lastScheduleTime": "2026-01-01T00:50:00Z"}}),
    );
    let revision = named(
        "web-1",
        json!({"revision": 1, "metadata": {"ownerReferences": [
        {"controller": true, "kind": "StatefulSet", "name": "web", "apiVersion": "apps/v1"}]}}),
    );
    let mut out = String::new();
    for (group, plural, object) in [
        ("apps", "deployments", &object),
        ("apps", "replicasets", &object),
        ("apps", "statefulsets", &object),
        ("apps", "daemonsets", &daemon),
        ("apps", "controllerrevisions", &revision),
        ("batch", "jobs", &job),
        ("batch", "cronjobs", &cron),
    ] {
        out += &print(group, plural, std::slice::from_ref(object));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn network() {
    let service = |kind: &str, more: Value| {
        let mut spec = json!({"type": kind, "clusterIPs": ["10.96.0.9"], "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}]});
        spec.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
        named(&kind.to_lowercase(), json!({"spec": spec}))
    };
    let services = [
        service("ClusterIP", json!({})),
        service("ClusterIP", json!({"clusterIPs": ["None"], "selector": null})),
        service("NodePort", json!({"externalIPs": ["192.0.2.1"]})),
        service("LoadBalancer", json!({})),
        service("ExternalName", json!({"externalName": "example.com", "clusterIPs": null, "ports": null})),
    ];
    let mut out = print("", "services", &services);
    let many: Vec<Value> = (2..7).map(|i| json!({"ip": format!("10.244.0.{i}")})).collect();
    out += &print(
        "",
        "endpoints",
        &[
            named("web", json!({"subsets": [{"addresses": many, "ports": [{"port": 80}]}]})),
            named("none", json!({})),
        ],
    );
    out += &print(
        "discovery.k8s.io",
        "endpointslices",
        &[
            named(
                "web-x",
                json!({"addressType": "IPv4", "ports": [{"port": 80}, {"port": null}],
            "endpoints": [{"addresses": ["10.244.0.2"]}, {"addresses": ["10.244.0.3"]}]}),
            ),
            named("none", json!({"addressType": "IPv4"})),
        ],
    );
    out += &print(
        "networking.k8s.io",
        "networkpolicies",
        &[
            named("deny", json!({"spec": {"podSelector": {}}})),
            named("web", json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}}})),
        ],
    );
    out += &print(
        "policy.networking.k8s.io",
        "clusternetworkpolicies",
        &[named("deny", json!({"spec": {"tier": "Admin", "priority": 7}}))],
    );
    out += &print(
        "networking.k8s.io",
        "ingresses",
        &[named(
            "web",
            json!({"spec": {"rules": [{"host": "a.test"}, {}],
        "tls": [{}]}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}),
        )],
    );
    out += &print(
        "networking.k8s.io",
        "ingressclasses",
        &[named("kilter", json!({"spec": {"controller": "kilter.dev/proxy"}}))],
    );
    insta::assert_snapshot!(out);
}

#[test]
fn cluster_and_config() {
    let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": ""}}, "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.240.0.11"}],
            "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Linux"}}});
    let mut out = print("", "nodes", &[named("node-1", node), named("node-2", json!({}))]);
    out += &print("", "namespaces", &[named("shop", json!({"status": {"phase": "Active"}}))]);
    out += &print(
        "",
        "persistentvolumeclaims",
        &[named(
            "data",
            json!({"spec": {"storageClassName": "fast"},
        "status": {"phase": "Pending", "accessModes": ["ReadWriteOnce"]}}),
        )],
    );
    out += &print("", "configmaps", &[named("cm", json!({"data": {"a": "1"}, "binaryData": {"b": ""}}))]);
    out += &print("", "secrets", &[named("s", json!({"type": "Opaque", "data": {"a": "1"}}))]);
    out += &print("", "serviceaccounts", &[named("default", json!({}))]);
    out += &print(
        "coordination.k8s.io",
        "leases",
        &[named("node-1", json!({"spec": {"holderIdentity": "node-1"}}))],
    );
    out += &print(
        "rbac.authorization.k8s.io",
        "rolebindings",
        &[named(
            "rb",
            json!({"roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
        )],
    );
    out += &print("rbac.authorization.k8s.io", "roles", &[named("r", json!({}))]);
    out += &print("policy", "poddisruptionbudgets", &[named("pdb", json!({}))]);
    insta::assert_snapshot!(out);
}

#[test]
fn events_of_both_versions_print_alike() {
    let core = named(
        "web.1",
        json!({"type": "Warning", "reason": "Unhealthy", "message": "probe failed\n", "count": 3,
        "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{web}"},
        "source": {"component": "kubelet", "host": "node-1"},
        "firstTimestamp": "2026-01-01T00:30:00Z", "lastTimestamp": "2026-01-01T00:59:50Z"}),
    );
    let view = named(
        "web.2",
        json!({"type": "Normal", "reason": "Pulled", "note": "it runs", "regarding": {"kind": "Pod", "name": "web"},
        "reportingController": "kilter", "eventTime": "2026-01-01T00:59:50.000000Z"}),
    );
    let mut out = print("", "events", &[core]);
    out += &print("events.k8s.io", "events", &[view]);
    insta::assert_snapshot!(out);
}
