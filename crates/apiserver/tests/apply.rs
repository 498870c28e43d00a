//! Server-side apply, by the real kubectl and by kube-rs.

mod common;

use common::Server;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: shop/web:1
        ports: [{containerPort: 8080}, {containerPort: 9090}]
"#;

async fn blocking(run: impl FnOnce(&Server) + Send + 'static) {
    let server = Server::start();
    let joined = tokio::task::spawn_blocking(move || {
        run(&server);
        server
    });
    joined.await.expect("kubectl's part").handle.shutdown().await;
}

/// Who manages what, as kubectl shows it.
fn entries(server: &Server) -> Vec<Value> {
    let shown = server.run(&["get", "deploy", "web", "-o", "json", "--show-managed-fields"]);
    let object: Value = serde_json::from_str(&shown).expect("JSON");
    object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
}

/// What one manager manages.
fn managed(server: &Server, manager: &str) -> Value {
    entries(server).into_iter().find(|e| e["manager"] == manager).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_meets_conflicts_and_forces() {
    blocking(|server| {
        const APPLY: [&str; 4] = ["apply", "--server-side", "-f", "-"];
        let get = |path: &str| server.run(&["get", "deploy", "web", "-o", &format!("jsonpath={{{path}}}")]);
        let dry = server.feed(&["apply", "--server-side", "--dry-run=server", "-f", "-"], WEB);
        assert!(dry.contains("deployment.apps/web serverside-applied (server dry run)"), "{dry}");
        assert!(server.fails(&["get", "deploy", "web"]).contains("not found"));
        assert!(server.feed(&APPLY, WEB).contains("deployment.apps/web serverside-applied"));
        let version = get(".metadata.resourceVersion");
        server.feed(&APPLY, WEB);
        assert_eq!(get(".metadata.resourceVersion"), version, "the same again writes nothing");

        let ours = managed(server, "kubectl");
        assert_eq!((&ours["operation"], &ours["fieldsType"]), (&json!("Apply"), &json!("FieldsV1")));
        let container = &ours["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"][r#"k:{"name":"web"}"#];
        assert_eq!(
            container["f:ports"],
            json!({r#"k:{"containerPort":8080,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}},
                r#"k:{"containerPort":9090,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}}})
        );
        assert!(container.get("f:imagePullPolicy").is_none(), "defaults are nobody's: {container}");

        // Another hand changes a field: a conflict, which force resolves.
        server.run(&["scale", "deploy", "web", "--replicas=5"]);
        assert!(entries(server).iter().any(|e| e["subresource"] == "scale" && e["operation"] == "Update"));
        let file = server.directory().join("web.yaml");
        std::fs::write(&file, WEB).expect("written");
        let file = file.to_str().expect("a path");
        let refused = server.fails(&["apply", "--server-side", "-f", file]);
        assert!(refused.contains("Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1 at"), "{refused}");
        assert!(refused.contains(".spec.replicas") && refused.contains("--force-conflicts"), "{refused}");
        assert_eq!(get(".spec.replicas"), "5");
        server.run(&["apply", "--server-side", "--force-conflicts", "-f", file]);
        assert_eq!(get(".spec.replicas"), "2");
        assert!(entries(server).iter().all(|e| e["subresource"] != "scale"));

        // What is applied no longer goes; what others added stays.
        server.run(&["label", "deploy", "web", "tier=front"]);
        let fewer = WEB.replace(", {containerPort: 9090}", "").replace("  labels: {app: web}\nspec", "spec");
        server.feed(&APPLY, &fewer);
        assert_eq!(get(".spec.template.spec.containers[0].ports[*].containerPort"), "8080");
        assert_eq!(get(".metadata.labels"), r#"{"tier":"front"}"#);
        let other = fewer.replace("name: web\n        image: shop/web:1", "name: side\n        image: side:1");
        let other = other.replace("8080", "7070").replace("replicas: 2\n  ", "");
        server.feed(&["apply", "--server-side", "--field-manager=other", "-f", "-"], &other);
        assert_eq!(get(".spec.template.spec.containers[*].name"), "web side");
        let difference = server.kubectl(&["diff", "--server-side", "-f", file]).output().expect("kubectl runs");
        assert_eq!(difference.status.code(), Some(1), "{difference:?}");
        assert!(String::from_utf8_lossy(&difference.stdout).contains("+        - containerPort: 9090"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_moves_from_client_side_apply_to_server_side() {
    blocking(|server| {
        assert!(server.feed(&["apply", "-f", "-"], WEB).contains("created"));
        assert_eq!(managed(server, "kubectl-client-side-apply")["operation"], "Update");
        // The first apply takes the fields over from the other way of applying; the next may change them.
        for image in ["web:1", "web:2"] {
            let moved = server.feed(&["apply", "--server-side", "-f", "-"], &WEB.replace("web:1", image));
            assert!(moved.contains("serverside-applied"), "{moved}");
            assert_eq!(managed(server, "kubectl-client-side-apply"), Value::Null);
            assert_eq!(managed(server, "kubectl")["operation"], "Apply");
        }
        for kind in ["deploy", "deploy.spec.template.spec.containers", "deploy.spec.template.spec.containers.ports.protocol"] {
            let explained = server.run(&["explain", kind]);
            assert!(explained.contains("DESCRIPTION:") && explained.contains("KIND:       Deployment"), "{explained}");
        }
        let all = server.run(&["explain", "deploy.spec.template", "--recursive"]);
        for line in ["containers", "livenessProbe", "<[]Container> -required-", "matchExpressions"] {
            assert!(all.contains(line), "{line}: {all}");
        }
        for kind in ["svc.spec", "netpol.spec.ingress", "cronjob.spec", "crd.spec", "gizmo"] {
            let output = server.kubectl(&["explain", kind]).output().expect("kubectl runs");
            assert_eq!(output.status.success(), kind != "gizmo", "{kind}: {output:?}");
        }
        let mistyped = WEB.replace("replicas: 2", "replicas: two");
        let file = server.directory().join("mistyped.yaml");
        std::fs::write(&file, mistyped).expect("written");
        let refused = server.fails(&["create", "-f", file.to_str().expect("a path")]);
        assert!(refused.contains("(BadRequest)") && refused.contains("spec.replicas"), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_rs_applies_objects_and_their_status() {
    let server = Server::start();
    let client = server.client().await;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let web: Value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "x"}]}}}});
    let params = PatchParams::apply("controller");
    let first = deployments.patch("web", &params, &Patch::Apply(&web)).await.expect("applied");
    assert_eq!(first.metadata.generation, Some(1));
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "status": {"replicas": 1, "conditions": [
        {"type": "Available", "status": "True"}]}});
    let second = deployments.patch_status("web", &params, &Patch::Apply(&status)).await.expect("applied");
    assert_eq!(second.status.as_ref().and_then(|s| s.replicas), Some(1));
    assert_eq!(second.spec, first.spec);
    let entries = second.metadata.managed_fields.expect("managed fields");
    let mut parts: Vec<_> = entries.iter().map(|e| e.subresource.as_deref().unwrap_or_default()).collect();
    parts.sort_unstable();
    assert_eq!(parts, ["", "status"]);

    let code = |error: kube::Error| match error {
        kube::Error::Api(status) => (status.code, status.message),
        other => panic!("{other}"),
    };
    let nobody = PatchParams::default();
    let unnamed = deployments.patch("web", &nobody, &Patch::Apply(&web)).await.expect_err("no manager");
    assert!(matches!(code(unnamed), (422, message) if message.contains("fieldManager: Required value")));
    let mut mine = web.clone();
    mine["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply"}]);
    assert_eq!(code(deployments.patch("web", &params, &Patch::Apply(&mine)).await.expect_err("managed")).0, 400);
    let stranger = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "none", "uid": "u"}});
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    assert_eq!(code(maps.patch("none", &params, &Patch::Apply(&stranger)).await.expect_err("another")).0, 409);
    let late = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"resourceVersion": "1"}});
    assert_eq!(code(deployments.patch("web", &params, &Patch::Apply(&late)).await.expect_err("stale")).0, 409);

    // What the server made itself belonged to nobody: the first apply finds it held by the past.
    let namespaces = Api::<Namespace>::all(client.clone());
    let taken = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default",
        "labels": {"kubernetes.io/metadata.name": "other"}}});
    let refused = namespaces.patch("default", &params, &Patch::Apply(&taken)).await.expect_err("a conflict");
    assert!(matches!(code(refused), (409, message) if message.contains("before-first-apply")));
    // Every client's writes are told apart.
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).expect("a map");
    let post = PostParams { field_manager: Some("creator".into()), ..PostParams::default() };
    maps.create(&post, &map).await.expect("created");
    let merge = Patch::Merge(json!({"data": {"b": "2"}}));
    let patched = maps.patch("m", &PatchParams { field_manager: Some("patcher".into()), ..nobody }, &merge).await;
    let entries = patched.expect("patched").metadata.managed_fields.expect("managed fields");
    let of = |name: &str| entries.iter().find(|e| e.manager.as_deref() == Some(name)).and_then(|e| e.fields_v1.clone());
    assert_eq!(of("patcher").expect("an entry").0, json!({"f:data": {"f:b": {}}}));
    assert_eq!(of("creator").expect("an entry").0, json!({"f:data": {".": {}, "f:a": {}}}));
}
