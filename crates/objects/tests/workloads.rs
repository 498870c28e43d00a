//! Workloads to pods, pods to endpoints.

use kilter_model::{Event, Origin, Pod, Service};
use kilter_objects::endpoints::{Subject, slices, to_k8s, to_model};
use kilter_objects::{expand, pod_template, to_event};
use serde_json::{Value, json};

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}},
           "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 8080, "name": "http"}]}]}})
}

fn workload(api_version: &str, kind: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
}

fn one(object: &Value) -> Pod {
    let mut pods = expand(object, Origin::Builtin).unwrap();
    assert_eq!(pods.len(), 1, "{object}");
    pods.remove(0)
}

#[test]
fn every_workload_kind_has_one_representative() {
    let plain = json!({"template": template()});
    for (api_version, kind, spec) in [
        ("apps/v1", "Deployment", plain.clone()),
        ("apps/v1", "ReplicaSet", plain.clone()),
        ("apps/v1", "StatefulSet", plain.clone()),
        ("apps/v1", "DaemonSet", plain.clone()),
        ("batch/v1", "Job", plain.clone()),
        ("v1", "ReplicationController", plain.clone()),
        ("batch/v1", "CronJob", json!({"jobTemplate": {"spec": plain.clone()}})),
        ("apps/v1", "Deployment", json!({"replicas": 0, "template": template()})),
    ] {
        let object = workload(api_version, kind, spec);
        let pod = one(&object);
        assert_eq!(pod.owner.to_string(), format!("shop/web[{kind}]"));
        assert_eq!(&*pod.uid, format!("static:{kind}/shop/web"));
        assert_eq!(pod.labels.get("app").map(|v| &**v), Some("web"), "{kind}");
        assert_eq!(pod.ports.len(), 1);
        assert!(pod.ready && pod.owns_addresses() && pod.addresses.is_empty() && pod.node.is_none());
        assert_eq!(pod_template(&object), Some(&template()));
    }
}

#[test]
fn a_job_labels_its_pods_with_its_name() {
    let pod = one(&workload("batch/v1", "Job", json!({"template": template()})));
    assert_eq!(pod.labels.get("batch.kubernetes.io/job-name").map(|v| &**v), Some("web"));
}

#[test]
fn lists_expand_and_fill_in_what_their_items_are() {
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": []}});
    let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [pod]});
    assert_eq!(one(&list).owner.to_string(), "default/a[Pod]");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [workload("apps/v1", "Deployment", json!({"template": template()})), {"apiVersion": "v1", "kind": "Service"}]});
    assert_eq!(one(&list).owner.to_string(), "shop/web[Deployment]");
    assert!(expand(&json!({"kind": "ConfigMap"}), Origin::Builtin).unwrap().is_empty());
}

#[test]
fn a_template_that_is_none_is_an_error_that_names_the_workload() {
    let object = workload(
        "apps/v1",
        "Deployment",
        json!({"template": {"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}}),
    );
    let error = expand(&object, Origin::Builtin).unwrap_err().to_string();
    assert!(
        error.starts_with("Deployment shop/web: template.spec.containers[0].ports[0].containerPort: "),
        "{error}"
    );
}

fn service(spec: Value) -> (Service, k8s_openapi::api::core::v1::Service) {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "uid": "s", "labels": {"x": "y"}}, "spec": spec});
    match to_event(&object, Origin::Builtin) {
        Ok(Some(Event::Service(it))) => (it, serde_json::from_value(object).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn pod(name: &str, address: &str, ready: bool, ports: Value) -> Pod {
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "a", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address}],
                   "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    match to_event(&object, Origin::Builtin) {
        Ok(Some(Event::Pod(it))) => it,
        other => panic!("{other:?}"),
    }
}

fn text(service: &Service, pods: &[Pod]) -> Vec<String> {
    let slices = to_model(service, slices(service, pods.iter().map(Subject::from)));
    slices
        .iter()
        .map(|s| {
            let ports: Vec<_> =
                s.ports.iter().map(|p| format!("{}={}/{}", p.name, p.port, p.protocol)).collect();
            let endpoints: Vec<_> = s
                .endpoints
                .iter()
                .map(|e| {
                    format!(
                        "{}{}{}",
                        e.address,
                        if e.ready { "" } else { "!" },
                        if e.terminating { "-" } else { "" }
                    )
                })
                .collect();
            format!("{} -> {}", ports.join(","), endpoints.join(","))
        })
        .collect()
}

const NAMED: &str = "http";

#[test]
fn named_target_ports_resolve_pod_by_pod_and_group_the_endpoints() {
    let (service, _) = service(json!({"selector": {"app": "web"}, "clusterIP": "10.96.0.1",
        "ports": [{"name": "w", "port": 80, "targetPort": NAMED}, {"name": "x", "port": 81, "targetPort": 9}]}));
    let pods = [
        pod("a", "10.0.0.1", true, json!([{"containerPort": 8080, "name": NAMED}])),
        pod("b", "10.0.0.2", true, json!([{"containerPort": 8081, "name": NAMED}])),
        pod("c", "10.0.0.3", false, json!([{"containerPort": 8080, "name": NAMED}])),
        pod("udp", "10.0.0.4", true, json!([{"containerPort": 8080, "name": NAMED, "protocol": "UDP"}])),
    ];
    let expected =
        ["w=8080/TCP,x=9/TCP -> 10.0.0.1,10.0.0.3!", "w=8081/TCP,x=9/TCP -> 10.0.0.2", "x=9/TCP -> 10.0.0.4"];
    assert_eq!(text(&service, &pods), expected);
    let mut backwards = pods.to_vec();
    backwards.reverse();
    assert_eq!(text(&service, &backwards), expected, "whatever the order of the pods");
}

#[test]
fn which_pods_are_endpoints() {
    let spec = json!({"selector": {"app": "web"}, "clusterIP": "None", "ports": [{"port": 80}]});
    let (headless, _) = service(spec.clone());
    let base = pod("a", "10.0.0.1", true, json!([]));
    let ended = Pod { phase: kilter_model::PodPhase::Succeeded, ..base.clone() };
    let elsewhere = Pod { name: kilter_model::NamespacedName::new("other", "a"), ..base.clone() };
    let unselected = Pod { labels: Default::default(), ..base.clone() };
    let addressless = Pod { addresses: vec![], ..base.clone() };
    for other in [ended, elsewhere, unselected, addressless] {
        assert_eq!(text(&headless, &[other]), Vec::<String>::new());
    }
    let going = Pod { terminating: true, ..base.clone() };
    assert_eq!(text(&headless, std::slice::from_ref(&going)), ["=80/TCP -> 10.0.0.1!-"]);
    let mut eager = spec;
    eager["publishNotReadyAddresses"] = true.into();
    let (eager, _) = service(eager);
    assert_eq!(text(&eager, &[going]), ["=80/TCP -> 10.0.0.1-"]);
    let (without, _) = service(json!({"ports": [{"port": 80}]}));
    assert_eq!(text(&without, &[base]), Vec::<String>::new());
}

#[test]
fn a_headless_service_needs_no_ports() {
    let (service, _) = service(json!({"selector": {"app": "web"}, "clusterIP": "None"}));
    assert_eq!(text(&service, &[pod("a", "fd00::1", true, json!([]))]), [" -> fd00::1"]);
}

#[test]
fn slices_hold_a_hundred_and_their_names_are_stable() {
    let (service, _) =
        service(json!({"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ports": [{"port": 80}]}));
    let pods: Vec<_> =
        (0..150).map(|i| pod(&format!("p{i}"), &format!("10.0.0.{i}"), true, json!([]))).collect();
    let made = slices(&service, pods.iter().map(Subject::from));
    assert_eq!(made.iter().map(|s| s.endpoints.len()).collect::<Vec<_>>(), [100, 50]);
    let fewer = slices(&service, pods[..3].iter().map(Subject::from));
    assert_eq!(fewer[0].name, made[0].name);
    assert_eq!(made[1].name.name.to_string(), format!("{}-1", made[0].name.name));
}

#[test]
fn slices_as_the_api_has_them() {
    let (service, api) = service(json!({"selector": {"app": "web"}, "clusterIP": "10.96.0.1",
        "ports": [{"port": 80, "targetPort": 8080, "appProtocol": "http"}]}));
    let pods = [pod("a", "10.0.0.1", true, json!([]))];
    let made = to_k8s(&api, slices(&service, pods.iter().map(Subject::from)));
    let value = serde_json::to_value(&made[0]).unwrap();
    assert_eq!(value["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    assert_eq!(value["metadata"]["ownerReferences"][0]["uid"], "s");
    assert_eq!(value["addressType"], "IPv4");
    assert_eq!(value["ports"], json!([{"name": "", "port": 8080, "protocol": "TCP", "appProtocol": "http"}]));
    assert_eq!(
        value["endpoints"][0]["targetRef"],
        json!({"kind": "Pod", "name": "a", "namespace": "shop", "uid": "a"})
    );
    assert_eq!(
        value["endpoints"][0]["conditions"],
        json!({"ready": true, "serving": true, "terminating": false})
    );
    let Ok(Some(Event::EndpointSlice(back))) = to_event(&value, Origin::Builtin) else { panic!() };
    assert_eq!(
        vec![back],
        to_model(&service, slices(&service, pods.iter().map(Subject::from))),
        "one computation"
    );
}
