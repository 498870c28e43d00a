//! The client that controllers and nodes share (`kilter-cluster`) against the embedded API.

mod common;

use std::time::Duration;

use common::ApiSeed;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kilter_cluster::{Applied, Error, Feed, Resource, Update, apply, connect, delete, snapshot, watch};
use kilter_model::{Cluster, Event};
use kube::{Api, Client};
use serde_json::{Value, json};

async fn client(seed: &ApiSeed) -> Client {
    connect(seed.kubeconfig.path()).await.unwrap()
}

fn shop() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "1", "b": "2"}},
               "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop"}}),
    ]
}

/// Applies what comes to a cluster until it is as wanted; all kinds must have synced once.
async fn follow(feed: &mut Feed, cluster: &mut Cluster, wanted: impl Fn(&Cluster) -> bool) {
    let mut synced = std::collections::BTreeSet::new();
    let search = async {
        while synced.len() < Resource::ALL.len() || !wanted(cluster) {
            for update in feed.next().await.expect("the feed ended") {
                match update {
                    Update::Synced(resource) => drop(synced.insert(resource)),
                    Update::Event { event, .. } => drop(cluster.apply(event)),
                }
            }
        }
    };
    let result = tokio::time::timeout(Duration::from_secs(30), search).await;
    assert!(result.is_ok(), "synced {synced:?}; {cluster:#?}");
}

fn has(cluster: &Cluster, service: &str) -> bool {
    cluster.services().any(|s| &*s.name.name == service)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_applied_each_for_itself() {
    let seed = ApiSeed::new();
    let api = seed.start();
    let client = client(&seed).await;
    let mut objects = shop();
    let results = apply(&client, &objects).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap(), &Applied::Created, "namespaces come first");
    assert!(matches!(&results[1], Err(Error::UnknownKind { kind, .. }) if kind == "Widget"));
    assert_eq!(results[2].as_ref().unwrap(), &Applied::Created);
    assert!(matches!(&results[3], Err(Error::Incomplete { field: "metadata.name", .. })));

    assert_eq!(apply(&client, &objects[..1]).await.unwrap()[0].as_ref().unwrap(), &Applied::Unchanged);
    objects[0]["metadata"]["labels"] = json!({"a": "3"});
    assert_eq!(apply(&client, &objects[..1]).await.unwrap()[0].as_ref().unwrap(), &Applied::Configured);
    let services: Api<Service> = Api::namespaced(client.clone(), "shop");
    let service = services.get("web").await.unwrap();
    let labels = service.metadata.labels.unwrap();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("a".to_string(), "3".to_string())]);
    assert!(service.spec.unwrap().cluster_ip.is_some(), "what the API gave it stays");

    let refused =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "Bad_Name"}, "spec": {}});
    let results = apply(&client, &[refused]).await.unwrap();
    assert!(matches!(&results[0], Err(Error::Refused { what, .. }) if what == "create Service Bad_Name"));
    assert!(delete(&client, &objects[..1]).await.unwrap()[0].is_ok());
    assert!(delete(&client, &objects[..1]).await.unwrap()[0].is_ok(), "gone is as good as deleted");
    api.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_and_a_snapshot_see_the_same_cluster() {
    let seed = ApiSeed::new();
    let api = seed.start();
    let client = client(&seed).await;
    let mut feed = watch(client.clone());
    let mut cluster = Cluster::default();
    apply(&client, &shop()).await.unwrap();
    follow(&mut feed, &mut cluster, |c| has(c, "web")).await;
    assert_eq!(cluster, snapshot(&client).await.unwrap());
    api.shutdown().await;
}

/// Passes connections on to the API, until they are cut.
struct Line {
    up: tokio::sync::watch::Sender<bool>,
    address: std::net::SocketAddr,
}

impl Line {
    async fn to(target: std::net::SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line =
            Self { up: tokio::sync::watch::Sender::new(true), address: listener.local_addr().unwrap() };
        let up = line.up.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut up = up.clone();
                if !*up.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = up.wait_for(|up| !*up) => {}
                    }
                });
            }
        });
        line
    }
}

/// With a long history the watch goes on where it was; with a short one it lists anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_loses_nothing_over_an_interruption() {
    for history in [8192, 2] {
        let seed = ApiSeed::new();
        let api = seed.start_with(history);
        let direct = client(&seed).await;
        let line = Line::to(api.addresses[0]).await;
        seed.reach_at(line.address);
        let mut feed = watch(client(&seed).await);
        let mut cluster = Cluster::default();
        apply(&direct, &shop()).await.unwrap();
        follow(&mut feed, &mut cluster, |c| has(c, "web")).await;

        line.up.send_replace(false);
        delete(&direct, &shop()[..1]).await.unwrap();
        for name in ["a", "b", "c", "d", "other"] {
            let spec = json!({"ports": [{"port": 1}]});
            let other =
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
            apply(&direct, &[other]).await.unwrap();
        }
        line.up.send_replace(true);
        let search = async {
            while !has(&cluster, "other") || has(&cluster, "web") {
                for update in feed.next().await.unwrap() {
                    if let Update::Event { event, .. } = update {
                        cluster.apply(event);
                    }
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(30), search).await;
        assert!(found.is_ok(), "history {history}: {cluster:#?}");
        assert_eq!(cluster, snapshot(&direct).await.unwrap());
        api.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_waits_for_an_api_that_is_not_there_yet() {
    let seed = ApiSeed::new();
    let mut feed = watch(client(&seed).await);
    let api = seed.start();
    let mut cluster = Cluster::default();
    follow(&mut feed, &mut cluster, |c| c.namespace("default").is_some()).await;
    api.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_kubeconfig_is_named() {
    let missing = connect(std::path::Path::new("/nonexistent/kubeconfig")).await;
    assert_eq!(missing.err().unwrap().to_string(), "kubeconfig /nonexistent/kubeconfig cannot be used");
    let seed = ApiSeed::new();
    let api = seed.start();
    let text = std::fs::read_to_string(seed.kubeconfig.path()).unwrap();
    let token = text.split("\"token\": \"").nth(1).unwrap().split('"').next().unwrap();
    std::fs::write(seed.kubeconfig.path(), text.replace(token, "wrong")).unwrap();
    let refused = apply(&client(&seed).await, &shop()).await;
    assert!(matches!(refused, Err(Error::Refused { code: 401, .. })), "{refused:?}");
    api.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_carries_the_version_at_which_it_happened() {
    let seed = ApiSeed::new();
    let api = seed.start();
    let client = client(&seed).await;
    let mut feed = watch(client.clone());
    apply(&client, &shop()).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let created: u64 =
        namespaces.get("shop").await.unwrap().metadata.resource_version.unwrap().parse().unwrap();
    namespaces.delete("shop", &Default::default()).await.unwrap();
    let search = async {
        loop {
            for update in feed.next().await.unwrap() {
                if let Update::Event { event: Event::NamespaceGone(name), resource_version, .. } = update
                    && &*name == "shop"
                {
                    return resource_version;
                }
            }
        }
    };
    let version = tokio::time::timeout(Duration::from_secs(30), search).await.unwrap();
    assert!(version.parse::<u64>().unwrap() > created);
    api.shutdown().await;
}
