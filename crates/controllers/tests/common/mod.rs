//! A cluster without network: the embedded API server, the controllers, and a kubelet that only
//! says what a kubelet would say. Each test binary uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use kilter_apiserver::{ApiServer, Config, Handle, Kubelet, Token, pki};
use kilter_cluster::{confirm_deleted, patch_node_status, patch_pod_status, watch_kind};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine: only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Set on a pod, keeps the kubelet from making it ready.
pub const NOT_READY: &str = "test/not-ready";

/// Where load balancers' addresses come from.
pub const POOLS: [&str; 2] = ["192.0.2.0/29", "2001:db8:1::/120"];

type Running = tokio::task::JoinHandle<Result<(), kilter_controllers::Error>>;

fn start(client: &Client, node_grace: Duration) -> (CancellationToken, Running) {
    let stop = CancellationToken::new();
    let load_balancers = POOLS.map(|net| net.parse().unwrap()).into();
    let config = kilter_controllers::Config { stop: stop.clone(), node_grace, load_balancers, ..Default::default() };
    (stop, tokio::spawn(kilter_controllers::run(client.clone(), config)))
}

pub struct World {
    pub client: Client,
    pub seed: ApiSeed,
    stop: CancellationToken,
    controllers: Running,
    /// What the kubelet saw: `+name` when a pod came to a node, `-name` when it went.
    pub seen: Arc<Mutex<Vec<String>>>,
    _kubelet: JoinSet<()>,
    _api: Handle,
}

impl World {
    /// A cluster with ready nodes `node-1`...
    pub async fn new(nodes: usize) -> Self {
        Self::with_grace(nodes, Duration::from_secs(3600)).await
    }

    /// Where nodes that are silent so long are given up.
    pub async fn with_grace(nodes: usize, node_grace: Duration) -> Self {
        let seed = ApiSeed::new();
        let api = seed.start();
        let client = kilter_cluster::connect(seed.kubeconfig.path()).await.unwrap();
        let (stop, controllers) = start(&client, node_grace);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut kubelet = JoinSet::new();
        kubelet.spawn(run_kubelet(client.clone(), seen.clone()));
        let world = Self { client, seed, stop, controllers, seen, _kubelet: kubelet, _api: api };
        for i in 1..=nodes {
            world.add_node(&format!("node-{i}")).await;
        }
        world
    }

    /// Ends the controllers as a caller would.
    pub async fn stop(mut self) {
        self.stop_controllers().await;
    }

    pub async fn stop_controllers(&mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, &mut self.controllers).await;
        ended.expect("the controllers do not stop").unwrap().unwrap();
    }

    /// Starts them anew, after they were stopped.
    pub fn start_controllers(&mut self) {
        (self.stop, self.controllers) = start(&self.client, Duration::from_secs(3600));
    }

    pub async fn add_node(&self, name: &str) {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &node).await.unwrap();
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        patch_node_status(&self.client, name, &serde_json::from_value(ready).unwrap()).await.unwrap();
    }

    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates an object from JSON; `kind` and `apiVersion` are filled in.
    pub async fn create<K>(&self, value: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone,
        K: std::fmt::Debug,
    {
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(value).unwrap()).await.unwrap()
    }

    /// Merges into an object.
    pub async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn list<K>(&self, selector: &str) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.api::<K>().list(&ListParams::default().labels(selector)).await.unwrap().items
    }

    /// Pods with label `app=APP` that are not going, by name.
    pub async fn pods(&self, app: &str) -> Vec<Pod> {
        let mut pods = self.list::<Pod>(&format!("app={app}")).await;
        pods.retain(|p| p.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Waits until there are exactly so many pods, all ready, and returns them.
    pub async fn ready_pods(&self, app: &str, count: usize) -> Vec<Pod> {
        self.eventually(&format!("{count} ready pods of {app}"), async || {
            let pods = self.pods(app).await;
            (pods.len() == count && pods.iter().all(is_ready)).then_some(pods)
        })
        .await
    }

    /// Asks until there is an answer; panics when there is none in time.
    pub async fn eventually<T>(&self, what: &str, find: impl AsyncFn() -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = find().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("never happened: {what}; pods seen: {:?}", self.seen.lock().unwrap()),
        }
    }
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Pods by node.
pub fn by_node(pods: &[Pod]) -> BTreeMap<String, usize> {
    let mut nodes = BTreeMap::new();
    for pod in pods {
        *nodes.entry(pod.spec.as_ref().unwrap().node_name.clone().unwrap()).or_default() += 1;
    }
    nodes
}

/// A pod template with label `app=APP`.
pub fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 80}]}]},
    })
}

/// A workload of any kind.
pub fn workload(app: &str, replicas: i32, more: Value) -> Value {
    let mut spec = json!({
        "replicas": replicas,
        "selector": {"matchLabels": {"app": app}},
        "template": template(app, "v1"),
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": app}, "spec": spec})
}

/// The embedded API before it starts.
pub struct ApiSeed {
    pki: pki::Pki,
    listener: TcpListener,
    /// For clients of it.
    pub kubeconfig: tempfile::NamedTempFile,
}

impl ApiSeed {
    pub fn new() -> Self {
        kilter_cluster::install_crypto();
        let pki = pki::generate(["127.0.0.1".to_owned()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let seed = Self { pki, listener, kubeconfig };
        seed.reach_at(seed.listener.local_addr().unwrap());
        seed
    }

    /// Sends clients to another address, where somebody passes their connections on.
    pub fn reach_at(&self, address: SocketAddr) {
        let server = format!("https://{address}");
        let text = pki::kubeconfig(&server, &self.pki.ca_certificate, &self.pki.admin_token, "test");
        std::fs::write(self.kubeconfig.path(), text).unwrap();
    }

    pub fn start(&self) -> Handle {
        self.start_with(Config::HISTORY)
    }

    /// With so many changes per kind that a watch may miss.
    pub fn start_with(&self, history: usize) -> Handle {
        let (certificates, key) = self.pki.server.parse().unwrap();
        ApiServer::start(Config {
            listeners: vec![self.listener.try_clone().unwrap()],
            certificates,
            key,
            tokens: vec![Token { secret: self.pki.admin_token.clone(), user: "admin".into() }],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            advertise: "10.240.0.2:6443".parse().unwrap(),
            kubelet: Kubelet { ca: None, token: self.pki.node_token.clone() },
            history,
            journal: None,
        })
        .unwrap()
    }
}

/// Says of every bound pod that it runs, and of every pod being deleted that it ended.
async fn run_kubelet(client: Client, seen: Arc<Mutex<Vec<String>>>) {
    let mut events = std::pin::pin!(watch_kind::<Pod>(Api::all(client.clone())));
    let mut next_address = 0u32;
    while let Some(event) = events.next().await {
        let pod = match event {
            Event::Apply(pod) | Event::InitApply(pod) => pod,
            Event::Delete(pod) => {
                seen.lock().unwrap().push(format!("-{}", pod.name_any()));
                continue;
            }
            Event::Init | Event::InitDone => continue,
        };
        let (namespace, name) = (pod.namespace().unwrap(), pod.name_any());
        let uid = pod.uid().unwrap();
        if pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_none() {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            confirm_deleted(&client, &namespace, &name, &uid).await.unwrap();
            continue;
        }
        // Nobody there speaks for it.
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        if conditions.into_iter().any(|c| c.reason.as_deref() == Some("NodeNotReady")) {
            continue;
        }
        let ready = !pod.annotations().contains_key(NOT_READY);
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            continue;
        }
        let running = pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"));
        if running && is_ready(&pod) == ready {
            continue;
        }
        if !running {
            seen.lock().unwrap().push(format!("+{name}"));
        }
        next_address += 1;
        let known = pod.status.as_ref().and_then(|s| s.pod_ip.clone());
        let address = known.unwrap_or_else(|| format!("10.244.{}.{}", next_address >> 8, next_address & 255));
        // A pod may be gone by now, which is nobody's fault.
        let _ = patch_pod_status(&client, &namespace, &name, &uid, &status(ready, &address)).await;
    }
}

fn status(ready: bool, address: &str) -> PodStatus {
    let ready = if ready { "True" } else { "False" };
    let now = k8s_openapi::jiff::Timestamp::now();
    serde_json::from_value(json!({
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": now},
            {"type": "ContainersReady", "status": ready, "lastTransitionTime": now},
        ],
    }))
    .unwrap()
}
