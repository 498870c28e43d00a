//! kube-rs against the server: lists, watches, patches, conflicts, deletion.

mod common;

use common::{Server, within};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Event as CoreEvent, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
    WatchEvent, WatchParams,
};
use kube::core::Selector;
use kube::runtime::{wait::await_condition, wait::conditions::is_deleted, watcher};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of its kind")
}

fn config_map(name: &str, labels: Value) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "1"}}))
}

fn pod(name: &str) -> Pod {
    object(
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "shop/web:1"}]}}),
    )
}

fn deployment(name: &str) -> Deployment {
    object(
        json!({"metadata": {"name": name}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": "shop/web:1"}]}}}}),
    )
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer of the API: {other}"),
    }
}

/// Waits until a watch has said so.
async fn gone<K>(api: Api<K>, name: &str, uid: &str)
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    within(&format!("{name} goes"), await_condition(api, name, is_deleted(uid))).await.expect("a watch");
}

async fn create<K>(api: &Api<K>, value: &K) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    api.create(&PostParams::default(), value).await.expect("created")
}

#[tokio::test]
async fn a_new_cluster_has_its_namespaces_and_the_way_to_the_api() {
    let server = Server::start();
    let client = server.client().await;
    let names = |list: Vec<Namespace>| list.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    let namespaces =
        Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await.expect("listed");
    assert_eq!(names(namespaces.items), ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let services = Api::<Service>::default_namespaced(client.clone());
    let service = services.get("kubernetes").await.expect("there");
    assert_eq!(service.spec.and_then(|s| s.cluster_ip).as_deref(), Some("10.96.0.1"));
    let slice =
        Api::<EndpointSlice>::default_namespaced(client.clone()).get("kubernetes").await.expect("there");
    assert_eq!(slice.endpoints.expect("endpoints")[0].addresses, ["10.240.0.2"]);
    for namespace in ["default", "kube-system"] {
        Api::<ServiceAccount>::namespaced(client.clone(), namespace).get("default").await.expect("there");
    }
    assert_eq!(client.apiserver_version().await.expect("a version").minor, "37");

    // The Service comes back when somebody deletes it.
    services.delete("kubernetes", &DeleteParams::default()).await.expect("deleted");
    let back = await_condition(services, "kubernetes", |s: Option<&Service>| s.is_some());
    within("the Service comes back", back).await.expect("a watch");
}

#[tokio::test]
async fn lists_are_selected_and_paged_consistently() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    for i in 0..7 {
        create(&maps, &config_map(&format!("m{i}"), json!({"odd": (i % 2 == 1).to_string()}))).await;
    }
    let count = async |params: ListParams| maps.list(&params).await.expect("listed").items.len();
    assert_eq!(count(ListParams::default().labels("odd=true")).await, 3);
    assert_eq!(count(ListParams::default().labels("odd notin (true),odd")).await, 4);
    assert_eq!(count(ListParams::default().labels_from(&Selector::default())).await, 7);
    assert_eq!(count(ListParams::default().fields("metadata.name=m3")).await, 1);

    let first = maps.list(&ListParams::default().limit(3)).await.expect("listed");
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (3, Some(4)));
    // What happens between the pages is not seen.
    maps.delete("m4", &DeleteParams::default()).await.expect("deleted");
    create(&maps, &config_map("m31", json!({}))).await;
    let token = first.metadata.continue_.expect("there is more");
    let second = maps.list(&ListParams::default().limit(10).continue_token(&token)).await.expect("listed");
    assert_eq!(second.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["m3", "m4", "m5", "m6"]);
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    assert_eq!(second.metadata.continue_.unwrap_or_default(), "");
    let error = maps.list(&ListParams::default().continue_token("zz")).await.expect_err("no token of ours");
    assert_eq!(code(&error), 400);
}

#[tokio::test]
async fn a_watch_sees_what_enters_and_leaves_its_selection() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    create(&maps, &config_map("early", json!({"app": "web"}))).await;
    let version = maps
        .list(&ListParams::default())
        .await
        .expect("listed")
        .metadata
        .resource_version
        .expect("a version");
    let params = WatchParams::default().labels("app=web").timeout(20);
    let mut events = maps.watch(&params, &version).await.expect("a watch").boxed();

    create(&maps, &config_map("a", json!({"app": "db"}))).await;
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    let patch = PatchParams::default();
    maps.patch("a", &patch, &label("web")).await.expect("patched");
    maps.patch("a", &patch, &Patch::Merge(json!({"data": {"k": "2"}}))).await.expect("patched");
    maps.patch("a", &patch, &label("db")).await.expect("patched");
    maps.delete("early", &DeleteParams::default()).await.expect("deleted");

    let mut seen = vec![];
    while seen.len() < 4 {
        let event = within("an event", events.try_next()).await.expect("readable").expect("one more");
        seen.push(match event {
            WatchEvent::Added(it) => format!("added {}", it.name_any()),
            WatchEvent::Modified(it) => format!("modified {}", it.name_any()),
            WatchEvent::Deleted(it) => format!("deleted {}", it.name_any()),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added a", "modified a", "deleted a", "deleted early"]);
}

#[tokio::test]
async fn watchers_of_both_kinds_follow_from_the_first_state() {
    let server = Server::start();
    let client = server.client().await;
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    create(&maps, &config_map("early", json!({}))).await;
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let name = if config == watcher::Config::default() { "listed" } else { "streamed" };
        let mut events = watcher(maps.clone(), config).boxed();
        let mut initial = vec![];
        loop {
            match within(name, events.try_next()).await.expect("readable").expect("one more") {
                watcher::Event::Init => {}
                watcher::Event::InitApply(it) => initial.push(it.name_any()),
                watcher::Event::InitDone => break,
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(initial.contains(&"early".to_owned()), "{name}: {initial:?}");
        create(&maps, &config_map(name, json!({}))).await;
        match within(name, events.try_next()).await.expect("readable").expect("one more") {
            watcher::Event::Apply(it) => assert_eq!(it.name_any(), name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_from_the_forgotten_past_is_told_to_list_again() {
    let server = Server::with_history(4);
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    let old = create(&maps, &config_map("m", json!({}))).await.resource_version().expect("a version");
    for i in 0..8 {
        let patch = Patch::Merge(json!({"data": {"k": i.to_string()}}));
        maps.patch("m", &PatchParams::default(), &patch).await.expect("patched");
    }
    let answer = maps.watch(&WatchParams::default(), &old).await;
    let refused = match answer {
        Err(error) => code(&error),
        Ok(events) => {
            match within("an event", events.boxed().try_next()).await.expect("readable").expect("one") {
                WatchEvent::Error(status) => status.code,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(refused, 410);
    let newer = maps.list(&ListParams::default().at("999999")).await.expect_err("not yet");
    assert_eq!(code(&newer), 504);
}

#[tokio::test]
async fn writes_conflict_and_halves_of_an_object_do_not_mix() {
    let server = Server::start();
    let deployments = Api::<Deployment>::default_namespaced(server.client().await);
    let post = PostParams::default();
    let first = create(&deployments, &deployment("web")).await;
    assert_eq!(code(&deployments.create(&post, &first.clone()).await.expect_err("again")), 400);
    assert_eq!(code(&deployments.create(&post, &deployment("web")).await.expect_err("again")), 409);

    let mut wanted = first.clone();
    wanted.spec.replicas = Some(5);
    wanted.status.get_or_insert_default().ready_replicas = Some(9);
    let second = deployments.replace("web", &post, &wanted).await.expect("replaced");
    assert_eq!(second.metadata.generation, Some(2));
    assert_eq!(second.status.as_ref().and_then(|s| s.ready_replicas), None);
    assert_eq!(code(&deployments.replace("web", &post, &wanted).await.expect_err("stale")), 409);

    let mut observed = second.clone();
    observed.spec.replicas = Some(1);
    observed.status.get_or_insert_default().ready_replicas = Some(3);
    let third = deployments.replace_status("web", &post, &observed).await.expect("replaced");
    assert_eq!((third.metadata.generation, third.spec.replicas), (Some(2), Some(5)));
    assert_eq!(third.status.as_ref().and_then(|s| s.ready_replicas), Some(3));

    // What changes nothing writes nothing.
    let same = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let same = deployments.patch("web", &PatchParams::default(), &same).await.expect("patched");
    assert_eq!(same.resource_version(), third.resource_version());
    // A dry run neither.
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"replicas": 7}}));
    assert_eq!(deployments.patch("web", &dry, &patch).await.expect("patched").spec.replicas, Some(7));
    assert_eq!(deployments.get("web").await.expect("there").resource_version(), third.resource_version());

    let scale = deployments.get_scale("web").await.expect("a scale");
    assert_eq!(scale.status.and_then(|s| s.selector).as_deref(), Some("app=web"));
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch_scale("web", &PatchParams::default(), &patch).await.expect("scaled");
    assert_eq!(deployments.get("web").await.expect("there").spec.replicas, Some(0));

    let immutable = Patch::Merge(json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}));
    let error = deployments.patch("web", &PatchParams::default(), &immutable).await.expect_err("immutable");
    assert_eq!(code(&error), 422);
}

#[tokio::test]
async fn every_patch_format_is_applied_and_others_are_refused() {
    let server = Server::start();
    let deployments = Api::<Deployment>::default_namespaced(server.client().await);
    create(&deployments, &deployment("web")).await;
    let params = PatchParams::default();
    let container = |extra: Value| json!({"spec": {"template": {"spec": {"containers": [extra]}}}});
    let sidecar = Patch::Strategic(container(json!({"name": "side", "image": "side:1"})));
    let both = deployments.patch("web", &params, &sidecar).await.expect("patched");
    let images = |d: &Deployment| -> Vec<String> {
        let spec = d.spec.template.spec.clone().expect("a pod spec");
        spec.containers.into_iter().filter_map(|c| c.image).collect()
    };
    let mut found = images(&both);
    found.sort();
    assert_eq!(found, ["shop/web:1", "side:1"]);
    let one = Patch::Merge(container(json!({"name": "main", "image": "x:2"})));
    assert_eq!(images(&deployments.patch("web", &params, &one).await.expect("patched")), ["x:2"]);

    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    create(&maps, &config_map("m", json!({}))).await;
    let json_patch = |operations: Value| Patch::<()>::Json(object(operations));
    let patched =
        maps.patch("m", &params, &json_patch(json!([{"op": "add", "path": "/data/x", "value": "y"}]))).await;
    assert_eq!(patched.expect("patched").data.expect("data").get("x").map(String::as_str), Some("y"));
    let failed =
        maps.patch("m", &params, &json_patch(json!([{"op": "test", "path": "/data/x", "value": "z"}]))).await;
    assert_eq!(code(&failed.expect_err("a failed test")), 422);
    let apply = maps.patch("m", &PatchParams::apply("me"), &Patch::Apply(config_map("m", json!({})))).await;
    assert_eq!(code(&apply.expect_err("not served yet")), 415);
    let missing = maps.patch("none", &params, &Patch::Merge(json!({}))).await.expect_err("missing");
    assert_eq!(code(&missing), 404);
}

async fn node(client: &Client, name: &str) -> Node {
    let nodes = Api::<Node>::all(client.clone());
    create(&nodes, &object(json!({"metadata": {"name": name}, "status": {"capacity": {"pods": "110"}}})))
        .await
}

#[tokio::test]
async fn a_pod_is_bound_once_and_leaves_when_its_kubelet_lets_it() {
    let server = Server::start();
    let client = server.client().await;
    node(&client, "node-1").await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let first = create(&pods, &pod("web")).await;
    assert_eq!(first.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Pending"));
    assert_eq!(first.spec.as_ref().and_then(|s| s.service_account_name.as_deref()), Some("default"));
    let mut spec = first.clone();
    spec.spec.as_mut().expect("a spec").node_name = Some("node-1".into());
    assert_eq!(
        code(&pods.replace("web", &PostParams::default(), &spec).await.expect_err("not this way")),
        422
    );

    let binding = |node: &str| json!({"target": {"kind": "Node", "name": node}});
    let bind = async |node: &str| {
        let _: Value =
            pods.create_subresource("binding", "web", &PostParams::default(), &binding(node)).await?;
        Ok::<_, kube::Error>(())
    };
    bind("node-1").await.expect("bound");
    assert_eq!(code(&bind("node-2").await.expect_err("bound already")), 409);
    let on_node = ListParams::default().fields("spec.nodeName=node-1,status.phase!=Failed");
    assert_eq!(pods.list(&on_node).await.expect("listed").items.len(), 1);

    let asked = pods
        .delete("web", &DeleteParams::default().grace_period(7))
        .await
        .expect("begun")
        .left()
        .expect("a pod");
    assert_eq!(asked.metadata.deletion_grace_period_seconds, Some(7));
    assert!(pods.get("web").await.expect("still there").metadata.deletion_timestamp.is_some());
    let wrong = DeleteParams {
        preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }),
        ..DeleteParams::default().grace_period(0)
    };
    assert_eq!(code(&pods.delete("web", &wrong).await.expect_err("another pod")), 409);
    pods.delete("web", &DeleteParams::default().grace_period(0)).await.expect("gone");
    assert_eq!(code(&pods.get("web").await.expect_err("gone")), 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_and_generated_names_differ() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    let held: ConfigMap = object(json!({"metadata": {"name": "held", "finalizers": ["kilter.dev/test"]}}));
    create(&maps, &held).await;
    maps.delete("held", &DeleteParams::default()).await.expect("begun");
    let mut held = maps.get("held").await.expect("still there");
    assert!(held.metadata.deletion_timestamp.is_some());
    held.metadata.finalizers = Some(vec!["kilter.dev/test".into(), "kilter.dev/late".into()]);
    let late = maps.replace("held", &PostParams::default(), &held).await.expect_err("too late");
    assert_eq!(code(&late), 422);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release).await.expect("released");
    assert_eq!(code(&maps.get("held").await.expect_err("gone")), 404);

    let generated: ConfigMap = object(json!({"metadata": {"generateName": "run-"}}));
    let (a, b) = (create(&maps, &generated).await.name_any(), create(&maps, &generated).await.name_any());
    assert!(a.starts_with("run-") && a.len() == 9 && a != b, "{a} {b}");
}

/// A deployment, its replica set and that one's pod.
async fn family(client: &Client) -> (Api<Deployment>, Api<ReplicaSet>, Api<Pod>, [String; 3]) {
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let sets = Api::<ReplicaSet>::default_namespaced(client.clone());
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let owner = |kind: &str, uid: &str| {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": uid,
        "controller": true, "blockOwnerDeletion": true}])
    };
    let top = create(&deployments, &deployment("web")).await.uid().expect("a UID");
    let mut set: Value = serde_json::to_value(deployment("web")).expect("JSON");
    set["kind"] = "ReplicaSet".into();
    set["metadata"]["ownerReferences"] = owner("Deployment", &top);
    let set = create(&sets, &object(set)).await.uid().expect("a UID");
    let mut leaf = pod("web");
    leaf.metadata.owner_references = object(owner("ReplicaSet", &set));
    let leaf = create(&pods, &leaf).await.uid().expect("a UID");
    (deployments, sets, pods, [top, set, leaf])
}

#[tokio::test]
async fn dependents_go_with_their_owner_or_stay_as_asked() {
    let server = Server::start();
    let client = server.client().await;
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        let (deployments, sets, pods, [top, set, leaf]) = family(&client).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        deployments.delete("web", &params).await.expect("begun");
        gone(pods, "web", &leaf).await;
        gone(sets, "web", &set).await;
        gone(deployments, "web", &top).await;
    }
    let (deployments, sets, pods, [top, set, _]) = family(&client).await;
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    deployments.delete("web", &params).await.expect("begun");
    gone(deployments, "web", &top).await;
    let orphan = sets.get("web").await.expect("it stays");
    assert_eq!((orphan.uid(), orphan.owner_references().len()), (Some(set), 0));
    pods.get("web").await.expect("it stays");
}

#[tokio::test]
async fn an_object_of_an_owner_that_never_was_is_collected() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    let mut stray = config_map("stray", json!({}));
    stray.metadata.owner_references = object(
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]),
    );
    let uid = create(&maps, &stray).await.uid().expect("a UID");
    gone(maps, "stray", &uid).await;
}

#[tokio::test]
async fn a_namespace_takes_its_contents_along() {
    let server = Server::start();
    let client = server.client().await;
    let namespaces = Api::<Namespace>::all(client.clone());
    let uid = create(&namespaces, &object(json!({"metadata": {"name": "shop"}}))).await.uid().expect("a UID");
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "shop");
    let mut held = config_map("held", json!({}));
    held.metadata.finalizers = Some(vec!["kilter.dev/test".into()]);
    create(&maps, &held).await;
    create(&maps, &config_map("free", json!({}))).await;
    namespaces.delete("shop", &DeleteParams::default()).await.expect("begun");
    let phase = namespaces.get("shop").await.expect("it waits").status.and_then(|s| s.phase);
    assert_eq!(phase.as_deref(), Some("Terminating"));
    let refused =
        maps.create(&PostParams::default(), &config_map("late", json!({}))).await.expect_err("too late");
    assert_eq!(code(&refused), 403);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release).await.expect("released");
    gone(namespaces.clone(), "shop", &uid).await;
    let lasting = namespaces.delete("default", &DeleteParams::default()).await.expect_err("lasting");
    assert_eq!(code(&lasting), 403);
    let nowhere =
        maps.create(&PostParams::default(), &config_map("x", json!({}))).await.expect_err("nowhere");
    assert_eq!(code(&nowhere), 404);
}

#[tokio::test]
async fn services_get_addresses_and_give_them_back() {
    let server = Server::start();
    let services = Api::<Service>::default_namespaced(server.client().await);
    let service = |name: &str, ip: Value| -> Service {
        object(json!({"metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}}))
    };
    let ip = |s: Service| s.spec.and_then(|s| s.cluster_ip).expect("an address");
    assert_eq!(ip(create(&services, &service("dns", json!("10.96.0.10"))).await), "10.96.0.10");
    let taken = services.create(&PostParams::default(), &service("other", json!("10.96.0.10"))).await;
    let taken = taken.expect_err("taken");
    assert_eq!(code(&taken), 422);
    assert!(taken.to_string().contains("provided IP is already allocated"), "{taken}");
    services.delete("dns", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(ip(create(&services, &service("other", json!("10.96.0.10"))).await), "10.96.0.10");
    assert!(ip(create(&services, &service("any", Value::Null)).await).starts_with("10.96."));
}

#[tokio::test]
async fn events_of_the_newer_version_are_seen_by_kubectl_describe() {
    let server = Server::start();
    let client = server.client().await;
    let event: k8s_openapi::api::events::v1::Event = object(json!({
        "metadata": {"generateName": "web."}, "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Scheduled",
        "type": "Normal", "note": "it has a node", "action": "Binding", "reportingController": "kilter",
        "reportingInstance": "kilter-0", "regarding": {"kind": "Pod", "name": "web", "namespace": "default"}}));
    create(&Api::default_namespaced(client.clone()), &event).await;
    let core = Api::<CoreEvent>::default_namespaced(client);
    let about = ListParams::default().fields("involvedObject.name=web,involvedObject.kind=Pod");
    let found = core.list(&about).await.expect("listed").items;
    assert_eq!(found[0].message.as_deref(), Some("it has a node"));
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    for (name, app) in [("a", "web"), ("b", "web"), ("c", "db")] {
        create(&maps, &config_map(name, json!({"app": app}))).await;
    }
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=web"))
        .await
        .expect("deleted");
    let left = maps.list(&ListParams::default()).await.expect("listed").items;
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["c"]);
}
