//! Custom resources, by kubectl and by kube-rs: definitions, validation, pruning, defaults, subresources,
//! columns, discovery, watches, deletion, and a journal that has them.

use futures::StreamExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use crate::common::{PATIENCE, Server, within};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.acme.example}
spec:
  group: acme.example
  scope: Namespaced
  names: {kind: Widget, plural: widgets, shortNames: [wd], categories: [toys]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    selectableFields: [{jsonPath: .spec.colour}]
    additionalPrinterColumns:
    - {name: Colour, type: string, jsonPath: .spec.colour}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Wanted, type: integer, jsonPath: .spec.replicas, priority: 1}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [colour]
            properties:
              colour: {type: string, enum: [red, green], description: What it looks like.}
              replicas: {type: integer, minimum: 0, default: 1}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [id]
                items:
                  type: object
                  required: [id]
                  properties: {id: {type: string}, size: {type: integer}}
          status:
            type: object
            properties:
              replicas: {type: integer}
              selector: {type: string}
              conditions:
                type: array
                items: {type: object, properties: {type: {type: string}, status: {type: string}}}
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

const RED: &str = "
apiVersion: acme.example/v1
kind: Widget
metadata: {name: red}
spec: {colour: red, what: ever}
";

fn widgets(version: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("acme.example", version, "Widget"), "widgets")
}

fn widget(name: &str, spec: Value) -> DynamicObject {
    let value = json!({"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(value).expect("an object")
}

/// Runs what blocks (kubectl) off the server's threads.
async fn blocking<T: Send + 'static>(server: Server, run: impl FnOnce(&Server) -> T + Send + 'static) -> (Server, T) {
    let joined = tokio::task::spawn_blocking(move || {
        let result = run(&server);
        (server, result)
    });
    joined.await.expect("the test's part")
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_with_a_kind_as_soon_as_it_is_defined() {
    let (server, ()) = blocking(Server::start(), |server| {
        assert!(server.fails(&["get", "widgets"]).contains("the server doesn't have a resource type"));
        server.feed(&["apply", "-f", "-"], DEFINITION);
        server.run(&["wait", "--for=condition=Established", "crd/widgets.acme.example", "--timeout=20s"]);
        let resources = server.run(&["api-resources", "--api-group=acme.example"]);
        assert!(resources.contains("wd") && resources.contains("acme.example/v1 "), "{resources}");
        let explained = server.run(&["explain", "widgets.spec.colour"]);
        assert!(explained.contains("What it looks like."), "{explained}");

        let told = server.fails(&["create", "-f", &file(server, RED)]);
        assert!(told.contains(r#"unknown field "spec.what""#), "{told}");
        let made = server.feed(&["create", "--validate=warn", "-f", "-"], RED);
        assert!(made.contains("unknown field") && made.contains("created"), "{made}");
        let kept = server.run(&["get", "wd", "red", "-o", "jsonpath={.spec}"]);
        assert_eq!(kept, r#"{"colour":"red","replicas":1}"#);
        let blue = RED.replace("colour: red, what: ever", "colour: blue");
        let told = server.fails(&["create", "-f", &file(server, &blue)]);
        assert!(told.contains(r#"Unsupported value: "blue": supported values: "red", "green""#), "{told}");

        let status = r#"{"status":{"replicas":1,"selector":"app=x","conditions":[{"type":"Ready","status":"True"}]}}"#;
        server.run(&["patch", "wd", "red", "--subresource=status", "--type=merge", "-p", status]);
        let table = server.run(&["get", "widgets"]);
        let words: Vec<&str> = table.split_whitespace().collect();
        assert_eq!(words, ["NAME", "COLOUR", "READY", "red", "red", "True"]);
        assert!(server.run(&["get", "widgets", "-o", "wide"]).contains("WANTED"));
        assert!(server.run(&["get", "toys"]).contains("red"));
        assert!(server.run(&["get", "wd", "--field-selector", "spec.colour=green"]).is_empty());
        server.run(&["scale", "widget/red", "--replicas=4"]);
        assert_eq!(server.run(&["get", "wd", "red", "-o", "jsonpath={.spec.replicas} {.metadata.generation}"]), "4 2");
        server.run(&["label", "wd", "red", "size=big"]);

        // Server-side apply merges lists by the keys that the definition names.
        let parts = |id: &str| format!("{}\n", RED.replace("what: ever", &format!("parts: [{{id: {id}, size: 1}}]")));
        server.feed(&["apply", "--server-side", "--force-conflicts", "--field-manager=one", "-f", "-"], &parts("a"));
        server.feed(&["apply", "--server-side", "--field-manager=two", "-f", "-"], &parts("b"));
        assert_eq!(server.run(&["get", "wd", "red", "-o", "jsonpath={.spec.parts[*].id}"]), "a b");

        let old = server.run(&["get", "widgets.v1beta1.acme.example", "red", "-o", "jsonpath={.apiVersion}"]);
        assert_eq!(old, "acme.example/v1beta1");
        server.run(&["delete", "crd", "widgets.acme.example", "--timeout=20s"]);
        server.fails(&["get", "widgets"]);
        server.feed(&["apply", "-f", "-"], DEFINITION);
        assert!(server.run(&["get", "widgets"]).is_empty(), "the old objects went with the old definition");
    })
    .await;
    server.handle.shutdown().await;
}

fn file(server: &Server, text: &str) -> String {
    let path = server.directory().join("object.yaml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

async fn define(client: &kube::Client) {
    let crd = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&crd));
    let definition: Value = serde_saphyr::from_str(DEFINITION).expect("YAML");
    let patch = PatchParams::apply("test");
    crds.patch("widgets.acme.example", &patch, &Patch::Apply(definition)).await.expect("defined");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_every_change_in_its_own_version_and_ends_with_the_kind() {
    let server = Server::start();
    let client = server.client().await;
    define(&client).await;
    let api = Api::<DynamicObject>::default_namespaced_with(client.clone(), &widgets("v1"));
    let old = Api::<DynamicObject>::default_namespaced_with(client.clone(), &widgets("v1beta1"));
    let mut events = Box::pin(old.watch(&WatchParams::default(), "0").await.expect("a watch"));
    let made = api.create(&PostParams::default(), &widget("a", json!({"colour": "red"}))).await.expect("created");
    let patch = Patch::Merge(json!({"spec": {"colour": "green"}}));
    api.patch("a", &PatchParams::default(), &patch).await.expect("patched");
    let refused = api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": -1}}))).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{refused:?}");
    let strategic = Patch::Strategic(json!({"spec": {"replicas": 2}}));
    let refused = api.patch("a", &PatchParams::default(), &strategic).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 415), "{refused:?}");
    api.delete("a", &DeleteParams::default()).await.expect("deleted");
    let mut seen = vec![];
    while seen.len() < 3 {
        match within("an event", events.next()).await.expect("an event").expect("readable") {
            WatchEvent::Added(o) => seen.push(format!("added {}", o.types.expect("types").api_version)),
            WatchEvent::Modified(o) => seen.push(format!("modified {}", o.data["spec"]["colour"])),
            WatchEvent::Deleted(o) => seen.push(format!("deleted {}", o.metadata.uid == made.metadata.uid)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["added acme.example/v1beta1", "modified \"green\"", "deleted true"]);

    let crd = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&crd));
    crds.delete("widgets.acme.example", &DeleteParams::default()).await.expect("deleted");
    match within("the end", events.next()).await.expect("an event").expect("readable") {
        WatchEvent::Error(status) => assert_eq!(status.code, 410),
        other => panic!("{other:?}"),
    }
    let gone = api.list(&ListParams::default()).await;
    assert!(matches!(&gone, Err(kube::Error::Api(status)) if status.code == 404), "{gone:?}");
    server.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_with_finalizers_hold_their_definition_and_refuse_company() {
    let server = Server::start();
    let client = server.client().await;
    define(&client).await;
    let api = Api::<DynamicObject>::default_namespaced_with(client.clone(), &widgets("v1"));
    let mut held = widget("held", json!({"colour": "red"}));
    held.metadata.finalizers = Some(vec!["acme.example/hold".into()]);
    api.create(&PostParams::default(), &held).await.expect("created");
    let crd = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&crd));
    crds.delete("widgets.acme.example", &DeleteParams::default()).await.expect("begun");
    let refused = api.create(&PostParams::default(), &widget("late", json!({"colour": "red"}))).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 405), "{refused:?}");
    assert!(crds.get_opt("widgets.acme.example").await.expect("an answer").is_some(), "one object is left");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    within("the object is deleted too", async {
        while api.get("held").await.expect("there").metadata.deletion_timestamp.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    api.patch("held", &PatchParams::default(), &free).await.expect("freed");
    let until = tokio::time::Instant::now() + PATIENCE;
    while crds.get_opt("widgets.acme.example").await.expect("an answer").is_some() {
        assert!(tokio::time::Instant::now() < until, "the definition goes after its last object");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_and_objects_are_there_after_a_restart() {
    let server = Server::with_journal();
    let client = server.client().await;
    define(&client).await;
    let api = Api::<DynamicObject>::default_namespaced_with(client.clone(), &widgets("v1"));
    let made = api.create(&PostParams::default(), &widget("a", json!({"colour": "red"}))).await.expect("created");
    let server = server.restart().await;
    let client = server.client().await;
    let api = Api::<DynamicObject>::default_namespaced_with(client, &widgets("v1"));
    let found = api.get("a").await.expect("there");
    assert_eq!((found.metadata.uid, found.metadata.resource_version), (made.metadata.uid, made.metadata.resource_version));
    let wrong = api.create(&PostParams::default(), &widget("b", json!({"colour": "blue"}))).await;
    assert!(matches!(&wrong, Err(kube::Error::Api(status)) if status.code == 422), "{wrong:?}");
    server.handle.shutdown().await;
}
