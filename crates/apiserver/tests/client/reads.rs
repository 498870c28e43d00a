use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, Namespace, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::core::Selector;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher;
use serde_json::json;

use crate::common::{Server, within};
use crate::{code, config_map, create, object};

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
    for version in [old.as_str(), "999999"] {
        // As an event of a watch that began well: clients take a refused request for a passing fault.
        let events = maps.watch(&WatchParams::default(), version).await.expect("the watch begins");
        match within("an event", events.boxed().try_next()).await.expect("readable").expect("one") {
            WatchEvent::Error(status) => assert_eq!(status.code, 410, "{version}"),
            other => panic!("{version}: {other:?}"),
        }
    }
    let newer = maps.list(&ListParams::default().at("999999")).await.expect_err("not yet");
    assert_eq!(code(&newer), 504);
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
