//! Defaulting and validation.

use kilter_objects::{default, validate};
use serde_json::{Value, json};

fn defaulted(mut object: Value) -> Value {
    default(&mut object);
    let once = object.clone();
    default(&mut object);
    assert_eq!(object, once, "defaulting is idempotent");
    object
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "creationTimestamp": null},
           "spec": {"selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}},
                                 "spec": {"containers": [{"name": "a", "image": "a:1",
                                     "ports": [{"containerPort": 80}],
                                     "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                                     "readinessProbe": {"httpGet": {"port": 80}}}],
                                          "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "c"}}]}}}})
}

#[test]
fn the_defaults_of_a_deployment() {
    insta::assert_json_snapshot!(sorted(defaulted(deployment())));
}

#[test]
fn the_defaults_of_other_kinds() {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}});
    let of = |api_version: &str, kind: &str, spec: Value| {
        let object = defaulted(
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}),
        );
        let mut object = sorted(object);
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("template");
        }
        object
    };
    insta::assert_json_snapshot!([
        of("apps/v1", "StatefulSet", json!({"template": template})),
        of("apps/v1", "DaemonSet", json!({"template": template})),
        of("apps/v1", "ReplicaSet", json!({"template": template})),
        of("v1", "ReplicationController", json!({"template": template})),
        of("batch/v1", "Job", json!({"template": template})),
        of("batch/v1", "CronJob", json!({"schedule": "@daily", "jobTemplate": {"spec": {}}})),
        of("v1", "Service", json!({"ports": [{"port": 80}, {"port": 81, "targetPort": "x"}]})),
        of(
            "v1",
            "Service",
            json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "clusterIP": "fd00::1"})
        ),
        of("v1", "Service", json!({"type": "ExternalName", "externalName": "example.org"})),
        of("networking.k8s.io/v1", "NetworkPolicy", json!({"ingress": [{"ports": [{"port": 80}]}]})),
        of("networking.k8s.io/v1", "NetworkPolicy", json!({"podSelector": {}, "egress": [{}]})),
        of("v1", "Namespace", json!({})),
        of("v1", "ResourceQuota", json!({"hard": {"pods": 10}})),
    ]);
}

#[test]
fn a_pod_on_the_host_network_has_host_ports() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"hostNetwork": true,
        "containers": [{"name": "a", "image": "x@sha256:0", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": 2}}}]}});
    let pod = defaulted(pod);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["ports"][0]["hostPort"], 80);
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["resources"], json!({"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}));
    assert_eq!(pod["spec"]["enableServiceLinks"], true);
}

#[test]
fn what_is_right_passes() {
    for object in [
        deployment(),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [
            {"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}]}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "system:x"}, "rules": []}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"}, "spec": {"podSelector": {}}}),
        json!({"apiVersion": "example.org/v1", "kind": "Unknown"}),
    ] {
        assert_eq!(validate(&defaulted(object.clone())), [], "{object}");
    }
}

#[test]
fn ports_claimed_twice() {
    let faults = |containers: Value, init: Value| -> Vec<String> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
                         "spec": {"containers": containers, "initContainers": init}});
        validate(&defaulted(pod)).iter().map(ToString::to_string).collect()
    };
    let with = |name: &str, ports: Value| json!({"name": name, "image": "x", "ports": ports});
    let port = json!([{"containerPort": 80}]);
    let sidecar = json!([{"name": "s", "image": "x", "restartPolicy": "Always", "ports": port}]);
    let clash = |at: &str, a: &str, b: &str| {
        vec![format!(
            "spec.{at}.ports[0].containerPort: Duplicate value: 80/TCP: container {a:?} claims this port and so does \
             container {b:?}; the containers of a pod share one network namespace"
        )]
    };
    assert_eq!(
        faults(json!([with("a", port.clone()), with("b", port.clone())]), json!([])),
        clash("containers[1]", "b", "a")
    );
    assert_eq!(faults(json!([with("a", port.clone())]), sidecar), clash("initContainers[0]", "s", "a"));
    assert!(faults(json!([with("a", port.clone())]), json!([with("before", port.clone())])).is_empty());
    let udp = json!([{"containerPort": 80, "protocol": "UDP"}]);
    assert!(faults(json!([with("a", port), with("b", udp)]), json!([])).is_empty());
    let both = json!([{"containerPort": 80, "name": "x"}, {"containerPort": 80, "name": "y"}]);
    assert!(faults(json!([with("a", both)]), json!([])).is_empty(), "one process may name its port twice");
}

/// One fault each, in an object that is right otherwise.
#[test]
fn faults() {
    let mut report = vec![];
    let mut try_with = |pointer: &str, value: Value| {
        let mut object = deployment();
        set(&mut object, pointer, value.clone());
        let faults: Vec<_> = validate(&defaulted(object)).iter().map(ToString::to_string).collect();
        report.push(format!("{pointer} = {value}\n    {}", faults.join("\n    ")));
    };
    try_with("/metadata/name", json!(""));
    try_with("/metadata/labels", json!({"a/b/c": "x", "ok": "not ok"}));
    try_with("/metadata/annotations", json!({" ": "x"}));
    try_with("/metadata/namespace", json!("a.b"));
    try_with("/spec/replicas", json!("3"));
    try_with("/spec/selector", json!({}));
    try_with("/spec/selector", json!({"matchLabels": {"app": "other"}}));
    try_with(
        "/spec/selector",
        json!({"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["x"]}]}),
    );
    try_with("/spec/strategy", json!({"type": "Recreate", "rollingUpdate": {}}));
    try_with("/spec/strategy", json!({"type": "Sideways"}));
    try_with("/spec/template/spec/containers", json!([]));
    try_with("/spec/template/spec/containers/0/image", json!(""));
    try_with("/spec/template/spec/containers/0/name", json!("A"));
    try_with("/spec/template/spec/containers/0/ports", json!([{"containerPort": 0}]));
    try_with("/spec/template/spec/containers/0/ports", json!([{"containerPort": 80, "protocol": "tcp"}]));
    try_with(
        "/spec/template/spec/containers/0/ports",
        json!([{"containerPort": 80, "name": "a-name-that-is-too-long"}]),
    );
    try_with(
        "/spec/template/spec/containers/0/ports",
        json!([{"containerPort": 80, "name": "x"}, {"containerPort": 81, "name": "x"}]),
    );
    try_with("/spec/template/spec/containers/0/readinessProbe", json!({}));
    try_with(
        "/spec/template/spec/containers/0/readinessProbe",
        json!({"tcpSocket": {"port": 80}, "exec": {"command": ["a"]}}),
    );
    try_with(
        "/spec/template/spec/containers/0/readinessProbe",
        json!({"tcpSocket": {"port": 0}, "periodSeconds": -1}),
    );
    try_with(
        "/spec/template/spec/containers/0/livenessProbe",
        json!({"httpGet": {"port": "", "scheme": "FTP"}, "successThreshold": 2}),
    );
    try_with(
        "/spec/template/spec/containers/0/volumeMounts",
        json!([{"name": "nowhere", "mountPath": "/x"}]),
    );
    try_with("/spec/template/spec/volumes", json!([{"name": "v"}, {"name": "v"}, {"name": "c"}]));
    try_with("/spec/template/spec/restartPolicy", json!("Never"));
    try_with("/spec/template/spec/dnsPolicy", json!("Sometimes"));
    try_with("/spec/template/spec/terminationGracePeriodSeconds", json!(-1));
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn faults_of_services() {
    let mut report = vec![];
    for spec in [
        json!({}),
        json!({"ports": [{"port": 0}]}),
        json!({"ports": [{"port": 80, "targetPort": "UPPER"}]}),
        json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}),
        json!({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
        json!({"ports": [{"port": 80, "nodePort": 30000}]}),
        json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}),
        json!({"type": "Other", "ports": [{"port": 80}]}),
        json!({"type": "ExternalName"}),
        json!({"clusterIP": "10.0.0.300", "ports": [{"port": 80}]}),
        json!({"ports": [{"port": 80}], "loadBalancerSourceRanges": ["x"], "externalIPs": ["y"]}),
        json!({"ports": [{"port": 80}], "type": "LoadBalancer", "loadBalancerClass": "a/b/c"}),
        json!({"ports": [{"port": 80}], "loadBalancerClass": "a/b", "allocateLoadBalancerNodePorts": true}),
        json!({"ports": [{"port": 80}], "externalTrafficPolicy": "Local"}),
        json!({"ports": [{"port": 80}], "externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]}),
        json!({"ports": [{"port": 80}], "externalIPs": ["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.5", "ff02::5"]}),
        json!({"ports": [{"port": 80}], "type": "LoadBalancer", "healthCheckNodePort": 30000}),
        json!({"ports": [{"port": 80}], "sessionAffinityConfig": {"clientIP": {}}}),
        json!({"ports": [{"port": 80}], "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
        json!({"ports": [{"port": 80}], "sessionAffinity": "ClientIP"}),
    ] {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec});
        let faults: Vec<_> = validate(&defaulted(object)).iter().map(ToString::to_string).collect();
        report.push(format!("{spec}\n    {}", faults.join("\n    ")));
    }
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn faults_of_endpoint_slices() {
    let mut report = vec![];
    for (family, more) in [
        ("IPv4", json!({"endpoints": [{"addresses": ["10.244.0.1"]}], "ports": [{"port": 80}]})),
        ("IPv9", json!({})),
        ("IPv4", json!({"endpoints": [{"addresses": []}, {"addresses": ["fd00::1"]}, {"addresses": ["web.example"]}]})),
        ("IPv4", json!({"endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": ["169.254.169.254"]}, {"addresses": ["0.0.0.0"]}, {"addresses": ["224.0.0.1"]}]})),
        ("IPv6", json!({"endpoints": [{"addresses": ["::1"]}, {"addresses": ["fe80::1"]}, {"addresses": ["::"]}, {"addresses": ["ff02::1"]}]})),
        ("IPv4", json!({"ports": [{"port": 0}, {"name": "a", "port": 70000}, {"name": "a", "protocol": "ICMP"}]})),
        ("FQDN", json!({"endpoints": [{"addresses": ["web.example"]}]})),
    ] {
        let mut object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "s"}, "addressType": family, "endpoints": []});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let faults: Vec<_> = validate(&defaulted(object)).iter().map(ToString::to_string).collect();
        report.push(format!("{family} {more}\n    {}", faults.join("\n    ")));
    }
    insta::assert_snapshot!(report.join("\n"));
}

/// Sets what a pointer names, making the last step.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
}

/// With sorted keys, whatever the map keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let all: std::collections::BTreeMap<_, _> =
                fields.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            all.into_iter().collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// `matchLabels: {app: }` selects what has the empty value, not everything.
#[test]
fn a_label_without_a_value_has_the_empty_one() {
    let mut policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"},
        "spec": {"podSelector": {"matchLabels": {"app": null}, "matchExpressions": null}}});
    default(&mut policy);
    assert_eq!(policy["spec"]["podSelector"], json!({"matchLabels": {"app": ""}}));
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"selector": {"app": null}, "ports": [{"port": 80}]}});
    default(&mut service);
    assert_eq!(service["spec"]["selector"], json!({"app": ""}));
}
