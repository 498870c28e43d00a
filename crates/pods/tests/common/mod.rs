//! A node in a network namespace of its own: an API server, a CNI plugin that is a shell script,
//! and the pods under test.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Event, Pod};
use kilter_apiserver::{ApiServer, Kubelet, Token, pki};
use kilter_pods::{Config, Dns, Handle, KubeletApi, Pods};
use kilter_testkit::{TempDir, TestCgroup};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub const NODE_IP: &str = "10.240.0.11";
pub const KUBELET_TOKEN: &str = "the-kubelets-token";
/// Longer than anything here takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A node and its API.
pub struct TestNode {
    pub dir: TempDir,
    pub client: Client,
    pub kubeconfig: PathBuf,
    pub server: kilter_apiserver::Handle,
    pub cgroup: Cgroup,
    pods: Option<Handle>,
}

/// How often the node looks whether the API has its status.
pub const HEARTBEAT: Duration = Duration::from_millis(200);

/// A cgroup that stands for the node's, removed with all that is in it.
pub struct Cgroup(TestCgroup);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.0.join("cgroup.kill"), "1");
    }
}

/// Runs a test on a thread, and so a runtime, in a new network namespace. Needs root.
pub fn on_a_node(test: impl for<'a> FnOnce(&'a mut TestNode) -> BoxFuture<'a, ()> + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("a network namespace (are you root?)");
        for arguments in ["link set lo up", &format!("address add {NODE_IP}/32 dev lo")] {
            assert!(
                Command::new("ip").args(arguments.split(' ')).status().unwrap().success(),
                "ip {arguments}"
            );
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("let the node forward");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut node = TestNode::start().await;
            test(&mut node).await;
            node.end().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl TestNode {
    async fn start() -> Self {
        let dir = TempDir::new("pods");
        let plugins = dir.path().join("cni");
        std::fs::create_dir(&plugins).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/fake-cni.sh");
        // Copied by another process: see `cni::tests`.
        assert!(Command::new("cp").arg(script).arg(plugins.join("fake-cni")).status().unwrap().success());
        let pki = pki::generate(["127.0.0.1".to_owned()]).unwrap();
        let (certificates, key) = pki.server.parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::start(kilter_apiserver::Config {
            listeners: vec![listener],
            certificates,
            key,
            tokens: vec![Token { secret: pki.admin_token.clone(), user: "admin".into() }],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            // An endpoint of a Service cannot be on a loopback; nobody asks for this one.
            advertise: "10.240.0.2:6443".parse().unwrap(),
            kubelet: Kubelet { ca: None, token: KUBELET_TOKEN.into() },
            history: kilter_apiserver::Config::HISTORY,
            journal: None,
        })
        .unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let url = format!("https://{address}");
        std::fs::write(&kubeconfig, pki::kubeconfig(&url, &pki.ca_certificate, &pki.admin_token, "test"))
            .unwrap();
        kilter_cluster::install_crypto();
        let client = kilter_cluster::connect(&kubeconfig).await.unwrap();
        let cgroup = Cgroup(TestCgroup::new("pods"));
        let mut node = Self { dir, client, kubeconfig, server, cgroup, pods: None };
        node.start_pods().await;
        node
    }

    /// Starts the node's pods, for the first time or again.
    pub async fn start_pods(&mut self) {
        let config = Config {
            node: "node-1".into(),
            node_ips: vec![NODE_IP.parse().unwrap()],
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            labels: Default::default(),
            client: self.client.clone(),
            cgroup: self.cgroup.0.0.clone(),
            state_dir: self.dir.path().join("state"),
            pause: env!("CARGO_BIN_EXE_kilter-pause").into(),
            cni_bin: self.dir.path().join("cni"),
            cni_conf: json!({"cniVersion": "1.1.0", "name": "test", "type": "fake-cni"}),
            authority: None,
            dns: Dns { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".into() },
            kubelet_api: KubeletApi {
                listen: format!("{NODE_IP}:0").parse().unwrap(),
                token: KUBELET_TOKEN.into(),
                tls: None,
            },
            builtin: None,
            honour_initial_delay: false,
            shutdown: Duration::from_millis(50),
            heartbeat: HEARTBEAT,
        };
        self.pods = Some(Pods::start(config).await.unwrap());
    }

    /// The pods' handle.
    pub fn pods(&self) -> &Handle {
        self.pods.as_ref().expect("the pods run")
    }

    /// Stops following the API, as a dying node process does; sandboxes stay.
    pub async fn stop_pods(&mut self) {
        self.pods.take().expect("the pods run").stop().await;
    }

    /// The API of one kind in the namespace that tests use.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates an object.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + serde::Serialize
            + Clone
            + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Creates a pod of this node, already scheduled.
    pub async fn create_pod(&self, name: &str, annotations: Value, mut spec: Value) -> Pod {
        spec["nodeName"] = json!("node-1");
        for container in spec["containers"].as_array_mut().unwrap() {
            container.as_object_mut().unwrap().entry("image").or_insert_with(|| json!("image"));
        }
        let labels = json!({"app": name});
        let meta = json!({"name": name, "labels": labels, "annotations": annotations});
        self.create(json!({"metadata": meta, "spec": spec})).await
    }

    /// Waits until a pod is so.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let api = self.api::<Pod>();
        let waited = tokio::time::timeout(DEADLINE, async {
            let mut last = None;
            let condition = |pod: Option<&Pod>| pod.is_some_and(&holds);
            if let Ok(pod) = kube::runtime::wait::await_condition(api.clone(), name, condition).await {
                last = pod;
            }
            last.expect("a pod")
        });
        match waited.await {
            Ok(pod) => pod,
            Err(_) => panic!(
                "{what}: not within {DEADLINE:?}: {:#?}\n{}",
                api.get_opt(name).await,
                self.events().await
            ),
        }
    }

    /// Waits until a pod is ready.
    pub async fn until_ready(&self, name: &str) -> Pod {
        self.until(name, "the pod is ready", is_ready).await
    }

    /// Changes a pod's annotation; `None` removes it.
    pub async fn annotate(&self, name: &str, key: &str, value: Option<&str>) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.api::<Pod>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn delete_pod(&self, name: &str) {
        let api = self.api::<Pod>();
        let uid = api.get(name).await.unwrap().uid().unwrap();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let gone = kube::runtime::conditions::is_deleted(&uid);
        let gone = kube::runtime::wait::await_condition(api, name, gone);
        tokio::time::timeout(DEADLINE, gone).await.expect("the pod is gone in time").unwrap();
    }

    /// All events, one line each: what a person sees in `kubectl describe`.
    pub async fn events(&self) -> String {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let lines = events.items.into_iter().map(|event| {
            let (object, reason) =
                (event.involved_object.name.unwrap_or_default(), event.reason.unwrap_or_default());
            format!(
                "{object} {} {reason} {}\n",
                event.type_.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        });
        lines.collect()
    }

    /// Waits until something outside the API is so.
    pub async fn until_holds(&self, what: &str, holds: impl Fn() -> bool) {
        let started = std::time::Instant::now();
        while !holds() {
            assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until an event holds this text.
    pub async fn until_event(&self, text: &str) {
        let started = std::time::Instant::now();
        while !self.events().await.contains(text) {
            assert!(started.elapsed() < DEADLINE, "no event {text:?} in:\n{}", self.events().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs `kubectl` against this API; exit code, output and what it said on standard error.
    pub async fn kubectl(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = tokio::process::Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEADLINE, output).await.expect("kubectl ends in time").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The calls that the CNI plugin got: `ADD`, `DEL`.
    pub fn cni_calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("cni/calls")).unwrap_or_default();
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }

    /// The pause processes of this node.
    pub fn pauses(&self) -> Vec<i32> {
        let state = self.dir.path().join("state");
        let numbers =
            std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        numbers
            .filter(|pid| {
                let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.contains("kilter-pause") && line.contains(state.to_str().unwrap())
            })
            .collect()
    }

    /// Deletes what is left and checks that nothing stays.
    async fn end(mut self) {
        for pod in self.api::<Pod>().list(&ListParams::default()).await.unwrap() {
            self.delete_pod(&pod.name_any()).await;
        }
        assert_eq!(self.pauses(), [0; 0], "no pause process is left");
        let left: Vec<_> = std::fs::read_dir(self.dir.path().join("state")).unwrap().collect();
        assert!(left.is_empty(), "no state is left: {left:?}");
        let pods = std::fs::read_dir(self.cgroup.0.0.join("pods")).map_or(0, |entries| {
            entries.flatten().filter(|entry| entry.path().is_dir()).count()
        });
        assert_eq!(pods, 0, "no cgroup is left");
        if self.pods.is_some() {
            self.stop_pods().await;
        }
        self.server.shutdown().await;
    }
}

/// Whether the pod's Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").as_deref() == Some("True")
}

/// The status of a condition.
pub fn condition(pod: &Pod, name: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == name).map(|condition| condition.status.clone())
}

/// One container's status, as JSON.
pub fn container(pod: &Pod, at: usize) -> Value {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses
        .and_then(|list| list.get(at))
        .map(|status| serde_json::to_value(status).unwrap())
        .unwrap_or_default()
}
