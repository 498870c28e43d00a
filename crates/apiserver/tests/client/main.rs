//! Clients against the server: kube-rs (lists, watches, patches, conflicts, deletion, restarts, custom
//! resources), Kubernetes' own for Python.

#[path = "../common/mod.rs"]
mod common;
mod custom;
mod deletion;
mod python;
mod reads;
mod restart;
mod writes;

use common::within;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::wait::conditions::is_deleted;
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
