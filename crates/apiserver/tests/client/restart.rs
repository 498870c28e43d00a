//! Watchers through a restart of the server: they go on where they were, miss nothing, and where the
//! history does not reach back they list again.

use std::collections::BTreeSet;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use super::{config_map, create};
use crate::common::{Server, within};

/// Follows a reflector until its store is as wanted.
async fn until<S>(what: &str, stream: &mut S, store: &reflector::Store<ConfigMap>, holds: impl Fn(&[String]) -> bool)
where
    S: Stream<Item = watcher::Result<watcher::Event<ConfigMap>>> + Unpin,
{
    within(what, async {
        loop {
            let names: BTreeSet<String> =
                store.state().iter().map(|m| format!("{}={}", m.metadata.name.as_deref().unwrap_or_default(), value(m))).collect();
            if holds(&names.into_iter().collect::<Vec<_>>()) {
                return;
            }
            // Refusals while the server is away are the watcher's business.
            drop(stream.next().await.expect("a watcher does not end"));
        }
    })
    .await;
}

fn value(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|d| d.get("k")).map(String::as_str).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_follows_through_a_restart() {
    let server = Server::with_journal();
    let client = server.client().await;
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    create(&maps, &config_map("a", json!({}))).await;
    create(&maps, &config_map("b", json!({}))).await;
    let (store, writer) = reflector::store();
    let watched = watcher::watcher(maps.clone(), watcher::Config::default()).default_backoff();
    let mut stream = Box::pin(watched.reflect(writer));
    until("the first list", &mut stream, &store, |names| names == ["a=1", "b=1"]).await;

    let server = server.restart().await;
    // Before the watcher is back: it must hear of all three.
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.expect("patched");
    maps.delete("b", &DeleteParams::default()).await.expect("deleted");
    create(&maps, &config_map("c", json!({}))).await;
    until("what happened since", &mut stream, &store, |names| names == ["a=2", "c=1"]).await;
    assert!(store.get(&ObjectRef::new("b").within("default")).is_none());
    server.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_from_a_revision_of_before_the_restart() {
    let server = Server::with_journal();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    let first = create(&maps, &config_map("a", json!({}))).await.metadata.resource_version.expect("a revision");
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.expect("patched");
    let server = server.restart().await;
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    let mut events = Box::pin(maps.watch(&WatchParams::default(), &first).await.expect("a watch"));
    match within("the change of before", events.next()).await.expect("an event").expect("readable") {
        WatchEvent::Modified(map) => assert_eq!(value(&map), "2"),
        other => panic!("{other:?}"),
    }
    // A revision that no server of this journal ever gave is answered 410, and no silence.
    let mut never = Box::pin(maps.watch(&WatchParams::default(), "999999").await.expect("a watch"));
    match within("a refusal", never.next()).await.expect("an event").expect("readable") {
        WatchEvent::Error(status) => assert_eq!(status.code, 410),
        other => panic!("{other:?}"),
    }
    server.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_whose_history_is_gone_lists_again() {
    let server = Server::with_journal_and_history(4);
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    create(&maps, &config_map("a", json!({}))).await;
    create(&maps, &config_map("gone", json!({}))).await;
    let (store, writer) = reflector::store();
    let watched = watcher::watcher(maps.clone(), watcher::Config::default()).default_backoff();
    let mut stream = Box::pin(watched.reflect(writer));
    until("the first list", &mut stream, &store, |names| names == ["a=1", "gone=1"]).await;
    let server = server.restart().await;
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    maps.delete("gone", &DeleteParams::default()).await.expect("deleted");
    for n in 2..20 {
        let patch = Patch::Merge(json!({"data": {"k": n.to_string()}}));
        maps.patch("a", &PatchParams::default(), &patch).await.expect("patched");
    }
    until("the new list", &mut stream, &store, |names| names == ["a=19"]).await;
    server.handle.shutdown().await;
}
