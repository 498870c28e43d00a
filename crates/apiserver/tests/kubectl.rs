//! The real kubectl against the server: the independent witness.

mod common;

use common::{PATIENCE, Server, within};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: shop/web:1
        ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
"#;

/// Runs what blocks (kubectl) off the server's threads.
async fn blocking<T: Send + 'static>(server: Server, run: impl FnOnce(&Server) -> T + Send + 'static) -> T {
    let joined = tokio::task::spawn_blocking(move || {
        let result = run(&server);
        (server, result)
    });
    let (server, result) = joined.await.expect("the test's part");
    server.handle.shutdown().await;
    result
}

const LIST: &str = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: v}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_applied_as_its_objects_and_each_is_checked() {
    blocking(Server::start(), |server| {
        let created = server.feed(&["apply", "-f", "-"], LIST);
        assert_eq!(created.matches(" created").count(), 2, "{created}");
        let got = server.run(&["get", "configmap", "a", "b", "-o", "yaml"]);
        assert!(got.contains("kind: List"), "{got}");
        let again = server.feed(&["apply", "-f", "-"], &got.replace("k: v", "k: w"));
        assert!(again.contains("configmap/a configured") && again.contains("configmap/b "), "{again}");
        assert_eq!(server.run(&["get", "configmap", "a", "-o", "jsonpath={.data.k}"]), "w");
        let bad = server.directory().join("bad.yaml");
        std::fs::write(&bad, LIST.replace(", data:", ", dat:")).expect("written");
        let refused = server.fails(&["apply", "-f", bad.to_str().expect("a path")]);
        assert!(refused.contains("unknown field \"dat\""), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_then_change_in_every_way_then_delete() {
    blocking(Server::start(), |server| {
        let created = server.feed(&["apply", "-f", "-"], SHOP);
        assert_eq!(created.matches(" created").count(), 4, "{created}");
        let again = server.feed(&["apply", "-f", "-"], SHOP);
        assert_eq!(again.matches(" unchanged").count(), 4, "{again}");

        let get = |path: &str| {
            server.run(&["-n", "shop", "get", "deploy", "web", "-o", &format!("jsonpath={{{path}}}")])
        };
        let changed = SHOP.replace("shop/web:1", "shop/web:2");
        assert!(server.feed(&["apply", "-f", "-"], &changed).contains("deployment.apps/web configured"));
        assert_eq!(get(".spec.template.spec.containers[*].image"), "shop/web:2");
        assert_eq!(get(".metadata.generation"), "2");
        server.run(&["-n", "shop", "scale", "deploy", "web", "--replicas=5"]);
        assert_eq!(get(".spec.replicas"), "5");
        server.run(&["-n", "shop", "label", "deploy", "web", "tier=front"]);
        server.run(&["-n", "shop", "annotate", "deploy", "web", "kilter.dev/note=x"]);
        server.run(&["-n", "shop", "set", "image", "deploy/web", "web=shop/web:3"]);
        server.run(&[
            "-n",
            "shop",
            "patch",
            "deploy",
            "web",
            "-p",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side"}]}}}}"#,
        ]);
        let mut images: Vec<String> =
            get(".spec.template.spec.containers[*].image").split(' ').map(str::to_owned).collect();
        images.sort();
        assert_eq!(images, ["shop/web:3", "side"]);
        server.run(&[
            "-n",
            "shop",
            "patch",
            "deploy",
            "web",
            "--type=json",
            "-p",
            r#"[{"op":"remove","path":"/metadata/labels/tier"}]"#,
        ]);
        assert_eq!(get(".metadata.labels"), r#"{"app":"web"}"#);
        let editor = ["-n", "shop", "edit", "deploy", "web"];
        let edited = server
            .kubectl(&editor)
            .env("EDITOR", "sed -i s#shop/web:3#shop/web:4#")
            .output()
            .expect("kubectl runs");
        assert!(edited.status.success(), "{edited:?}");
        assert!(get(".spec.template.spec.containers[*].image").contains("shop/web:4"));
        let whole = server
            .run(&["-n", "shop", "get", "deploy", "web", "-o", "json"])
            .replace("shop/web:4", "shop/web:5");
        assert!(server.feed(&["replace", "-f", "-"], &whole).contains("replaced"));
        server.run(&["-n", "shop", "rollout", "restart", "deploy/web"]);
        let preview = server.feed(&["apply", "--dry-run=server", "-f", "-"], SHOP);
        assert!(preview.contains("deployment.apps/web configured (server dry run)"), "{preview}");
        assert!(get(".spec.template.spec.containers[*].image").contains("shop/web:5"));

        server.run(&["-n", "shop", "delete", "svc,netpol", "--all"]);
        server.run(&["delete", "namespace", "shop", "--timeout=20s"]);
        assert!(server.fails(&["get", "ns", "shop"]).contains(r#"namespaces "shop" not found"#));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_sends_protobuf_and_is_understood() {
    blocking(Server::start(), |server| {
        for arguments in [
            "create namespace shop",
            "-n shop create configmap cm --from-literal=a=b",
            "-n shop create secret generic s --from-literal=password=x",
            "-n shop create serviceaccount robot",
            "-n shop create deployment web --image=shop/web --replicas=0 --port=8080",
            "-n shop create service clusterip web --tcp=80:8080",
            "-n shop create service nodeport out --tcp=80:8080",
            "-n shop create service externalname away --external-name=example.com",
            "-n shop create job once --image=shop/job -- echo done",
            "-n shop create cronjob nightly --image=shop/job --schedule=@daily",
            "-n shop create ingress in --rule=shop.test/*=web:80",
            "-n shop create role reader --verb=get --resource=pods",
            "-n shop create rolebinding readers --role=reader --serviceaccount=shop:robot",
            "-n shop create poddisruptionbudget pdb --selector=app=web --min-available=50%",
            "-n shop create quota q --hard=pods=10",
            "create priorityclass high --value=7",
            "-n shop run one --image=shop/one --labels=app=one --env=A=b",
            "-n shop expose deployment web --name=exposed --port=80 --target-port=http",
        ] {
            server.run(&arguments.split(' ').collect::<Vec<_>>());
        }
        let get = |kind: &str, path: &str| {
            server.run(&["-n", "shop", "get", kind, "-o", &format!("jsonpath={{{path}}}")])
        };
        assert_eq!(get("secret/s", ".data.password"), "eA==");
        assert_eq!(get("deploy/web", ".spec.replicas"), "0");
        assert_eq!(get("svc/web", ".spec.ports[0].targetPort"), "8080");
        assert_eq!(get("svc/exposed", ".spec.ports[0].targetPort"), "http");
        assert_eq!(get("job/once", ".spec.template.spec.containers[0].command"), r#"["echo","done"]"#);
        assert_eq!(get("pdb/pdb", ".spec.minAvailable"), "50%");
        assert_eq!(get("quota/q", ".spec.hard.pods"), "10");
        assert_eq!(get("ingress/in", ".spec.rules[0].http.paths[0].backend.service.port.number"), "80");
        let again = server.fails(&["create", "namespace", "shop"]);
        assert!(again.contains(r#"namespaces "shop" already exists"#), "{again}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_prints_the_columns_that_people_know() {
    blocking(Server::start(), |server| {
        server.feed(&["apply", "-f", "-"], SHOP);
        let header = |arguments: &[&str]| {
            let out = server.run(arguments);
            out.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(header(&["-n", "shop", "get", "deploy"]), "NAME READY UP-TO-DATE AVAILABLE AGE");
        assert_eq!(
            header(&["get", "svc", "-A", "-o", "wide"]),
            "NAMESPACE NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR"
        );
        assert_eq!(header(&["get", "ns", "--show-labels"]), "NAME STATUS AGE LABELS");
        assert_eq!(server.run(&["get", "deploy", "-A", "-o", "name"]), "deployment.apps/web\n");
        assert_eq!(server.run(&["get", "deploy", "-A", "-l", "app in (db)", "-o", "name"]), "");
        assert_eq!(
            server.run(&[
                "get",
                "deploy",
                "-A",
                "-l",
                "app=web",
                "-o",
                "custom-columns=N:.metadata.name",
                "--no-headers"
            ]),
            "web\n"
        );
        let all = server.run(&["-n", "shop", "get", "all"]);
        assert!(all.contains("deployment.apps/web") && all.contains("service/web"), "{all}");
        for output in ["yaml", "json", "wide", "name"] {
            server.run(&["get", "ns,svc,deploy,netpol,endpointslices", "-A", "-o", output]);
        }
        let resources = server.run(&["api-resources", "--no-headers"]);
        assert!(resources.lines().count() > 30, "{resources}");
        assert!(server.run(&["api-versions"]).contains("apps/v1"));
        assert_eq!(server.run(&["get", "--raw", "/readyz"]), "ok");
        for (kind, name) in [("deploy", "web"), ("svc", "web"), ("netpol", "deny"), ("ns", "shop")] {
            let described = server.run(&["-n", "shop", "describe", kind, name]);
            assert!(described.contains(name), "{described}");
        }
        let unknown = server.fails(&["get", "gizmos"]);
        assert!(unknown.contains("the server doesn't have a resource type"), "{unknown}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_unless_asked_otherwise() {
    blocking(Server::start(), |server| {
        let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: typo}\ndataa: {a: b}\n";
        let file = server.directory().join("typo.yaml");
        std::fs::write(&file, typo).expect("written");
        let file = file.to_str().expect("a path");
        let refused = server.fails(&["apply", "-f", file]);
        assert!(refused.contains(r#"strict decoding error: unknown field "dataa""#), "{refused}");
        let warned = server.feed(&["apply", "--validate=warn", "-f", "-"], typo);
        assert!(warned.contains(r#"Warning: unknown field "dataa""#), "{warned}");
        assert!(!server.feed(&["apply", "--validate=ignore", "-f", "-"], typo).contains("Warning"));
    })
    .await;
}

/// What a controller and a kubelet would do.
async fn play_controller(client: kube::Client) {
    let nodes = Api::<Node>::all(client.clone());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "node-1"}})).expect("a node");
    nodes.create(&PostParams::default(), &node).await.expect("created");
    let deployments = Api::<Deployment>::namespaced(client.clone(), "shop");
    let pods = Api::<Pod>::namespaced(client, "shop");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-1", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]}}))
    .expect("a pod");
    pods.create(&PostParams::default(), &pod).await.expect("created");
    let binding = json!({"target": {"kind": "Node", "name": "node-1"}});
    let _: Value =
        pods.create_subresource("binding", "web-1", &PostParams::default(), &binding).await.expect("bound");
    let ready = json!([{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]);
    let running = json!({"status": {"phase": "Running", "podIP": "10.244.1.2", "conditions": ready,
        "containerStatuses": [{"name": "web", "ready": true, "restartCount": 0, "image": "shop/web:1", "imageID": "",
            "state": {"running": {}}}]}});
    pods.patch_status("web-1", &PatchParams::default(), &Patch::Merge(running)).await.expect("patched");
    let generation = deployments.get("web").await.expect("there").metadata.generation;
    let done = json!({"status": {"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]}});
    deployments.patch_status("web", &PatchParams::default(), &Patch::Merge(done)).await.expect("patched");
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_and_rollout_see_what_controllers_do() {
    let server = Server::start();
    let client = server.client().await;
    let runtime = tokio::runtime::Handle::current();
    blocking(server, move |server| {
        server.feed(&["apply", "-f", "-"], SHOP);
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let spawn = |arguments: &[&str]| server.kubectl(arguments).spawn().expect("kubectl runs");
        let mut waiting = [
            spawn(&["-n", "shop", "rollout", "status", "deploy/web", &timeout]),
            spawn(&["-n", "shop", "wait", "--for=condition=Available", "deploy/web", &timeout]),
            spawn(&[
                "-n",
                "shop",
                "wait",
                "--for=jsonpath={.status.readyReplicas}=2",
                "deploy/web",
                &timeout,
            ]),
        ];
        runtime.block_on(within("the controller's part", play_controller(client)));
        for child in &mut waiting {
            assert!(child.wait().expect("kubectl ends").success());
        }
        let pods = server.run(&["-n", "shop", "get", "pods", "-o", "wide", "--no-headers"]);
        let cells: Vec<&str> = pods.split_whitespace().collect();
        assert_eq!(cells[..4], ["web-1", "1/1", "Running", "0"], "{pods}");
        assert!(cells.contains(&"10.244.1.2") && cells.contains(&"node-1"), "{pods}");
        let node = server.run(&["describe", "node", "node-1"]);
        assert!(node.contains("web-1"), "{node}");
        // Graceful deletion waits for the kubelet; force does not.
        let mut waiting = spawn(&["-n", "shop", "wait", "--for=delete", "pod/web-1", &timeout]);
        server.run(&["-n", "shop", "delete", "pod", "web-1", "--wait=false"]);
        assert!(server.run(&["-n", "shop", "get", "pod", "web-1"]).contains("Terminating"));
        server.run(&["-n", "shop", "delete", "pod", "web-1", "--force", "--grace-period=0"]);
        assert!(waiting.wait().expect("kubectl ends").success());
        server.run(&["cordon", "node-1"]);
        assert!(server.run(&["get", "node", "node-1"]).contains("SchedulingDisabled"));
    })
    .await;
}
