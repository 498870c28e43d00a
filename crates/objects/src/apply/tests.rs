use serde_json::{Value, json};

use super::*;
use crate::{kinds, schema};

fn manager(name: &str, operation: Operation) -> Manager {
    Manager { name: name.into(), operation, api_version: "apps/v1".into(), subresource: String::new() }
}

fn ty() -> Type<'static> {
    schema::of(kinds::find("apps/v1", "Deployment").expect("a kind"))
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn containers(containers: Value) -> Value {
    deployment(json!({"template": {"spec": {"containers": containers}}}))
}

fn by(live: Option<&Value>, config: &Value, name: &str, force: bool) -> Result<Value, Refusal> {
    let manager = manager(name, Operation::Apply);
    apply(live, config, ty(), Applier { manager: &manager, now: "2026-01-01T00:00:00Z", force })
}

fn applied(live: Option<&Value>, config: &Value, name: &str) -> Value {
    by(live, config, name, false).expect("applied")
}

fn conflicts(result: Result<Value, Refusal>) -> Vec<String> {
    match result {
        Err(Refusal::Conflicts(found)) => {
            found.into_iter().map(|c| format!("{} {}", c.manager.name, c.path)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("managed fields");
    entries.iter().find(|e| e["manager"] == manager).map(|e| e["fieldsV1"].clone()).unwrap_or_default()
}

#[test]
fn what_is_no_longer_applied_goes_and_what_others_apply_stays() {
    let first = applied(None, &deployment(json!({"replicas": 2, "minReadySeconds": 3, "paused": true})), "a");
    assert_eq!(fields(&first, "a"), json!({"f:spec": {"f:minReadySeconds": {}, "f:paused": {}, "f:replicas": {}}}));
    let shared = applied(Some(&first), &deployment(json!({"minReadySeconds": 3})), "b");
    let second = applied(Some(&shared), &deployment(json!({"replicas": 2})), "a");
    assert_eq!(second["spec"], json!({"replicas": 2, "minReadySeconds": 3}));
    let third = applied(Some(&second), &deployment(json!({})), "b");
    assert_eq!(third["spec"], json!({"replicas": 2}));
    // An empty object is something that is wanted.
    assert_eq!(fields(&third, "b"), json!({"f:spec": {}}));
}

#[test]
fn a_field_of_another_manager_is_a_conflict_unless_equal_or_forced() {
    let live = applied(None, &deployment(json!({"replicas": 2})), "a");
    let other = deployment(json!({"replicas": 3}));
    assert_eq!(conflicts(by(Some(&live), &other, "b", false)), ["a .spec.replicas"]);
    let same = applied(Some(&live), &deployment(json!({"replicas": 2})), "b");
    assert_eq!(fields(&same, "a"), fields(&same, "b"));
    let forced = by(Some(&live), &other, "b", true).expect("forced");
    assert_eq!((&forced["spec"]["replicas"], fields(&forced, "a")), (&json!(3), Value::Null));
}

#[test]
fn list_items_belong_to_their_managers() {
    let port = |number: u32| json!({"containerPort": number});
    let live = applied(None, &containers(json!([{"name": "web", "image": "x", "ports": [port(80), port(81)]}])), "a");
    let both = applied(Some(&live), &containers(json!([{"name": "side", "image": "y"}])), "b");
    let names = |o: &Value| -> Vec<String> {
        let all = o["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
        all.iter().map(|c| c["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&both), ["web", "side"]);
    let fewer = containers(json!([{"name": "web", "image": "x", "ports": [port(81)]}]));
    let fewer = applied(Some(&both), &fewer, "a");
    assert_eq!(fewer["spec"]["template"]["spec"]["containers"][0]["ports"], json!([port(81)]));
    assert_eq!(names(&applied(Some(&fewer), &containers(json!([])), "a")), ["side"]);
    // What another manager added to an item holds the item, with its key.
    let env = containers(json!([{"name": "web", "env": [{"name": "A", "value": "1"}]}]));
    let env = applied(Some(&both), &env, "c");
    let held = applied(Some(&env), &containers(json!([])), "a");
    assert_eq!(
        held["spec"]["template"]["spec"]["containers"][0],
        json!({"name": "web", "env": [{"name": "A", "value": "1"}]})
    );
}

#[test]
fn an_update_takes_over_what_it_changes() {
    let live = applied(None, &deployment(json!({"replicas": 2, "selector": {"matchLabels": {"a": "b"}}})), "a");
    let mut after = live.clone();
    after["spec"]["replicas"] = 5.into();
    after["metadata"]["labels"] = json!({"x": "y"});
    track(Some(&live), &mut after, ty(), &manager("scaler", Operation::Update), "2026-01-02T00:00:00Z");
    assert_eq!(fields(&after, "a"), json!({"f:spec": {"f:selector": {}}}));
    assert_eq!(
        fields(&after, "scaler"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:replicas": {}}})
    );
    assert_eq!(conflicts(by(Some(&after), &deployment(json!({"replicas": 2})), "a", false)), ["scaler .spec.replicas"]);
    let mut gone = after.clone();
    gone["spec"].as_object_mut().expect("a spec").remove("replicas");
    track(Some(&after), &mut gone, ty(), &manager("other", Operation::Update), "2026-01-03T00:00:00Z");
    assert_eq!(fields(&gone, "scaler"), json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}));
}

#[test]
fn an_object_nobody_managed_is_held_by_the_past() {
    let live = deployment(json!({"replicas": 2}));
    let found = conflicts(by(Some(&live), &deployment(json!({"replicas": 3})), "a", false));
    assert_eq!(found, ["before-first-apply .spec.replicas"]);
}

#[test]
fn lists_without_their_keys_are_refused() {
    for bad in [json!([{"image": "x"}]), json!([{"name": "a"}, {"name": "a"}]), json!(["a"])] {
        let refused = by(None, &containers(json!([{"name": "a"}])), "a", false).and_then(|live| {
            by(Some(&live), &containers(bad.clone()), "a", false)
        });
        match refused {
            Err(Refusal::Malformed(error)) => assert_eq!(error.field, "spec.template.spec.containers"),
            other => panic!("{bad}: {other:?}"),
        }
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn spec() -> impl Strategy<Value = Value> {
        let labels = prop::collection::btree_map("[abc]", "[xy]", 0..3);
        let container = ("[pqr]", prop::option::of("[xy]"), prop::collection::btree_set(80u16..83, 0..3));
        let containers = prop::collection::btree_map("[pqr]", container, 0..3);
        (prop::option::of(0u8..3), labels, containers).prop_map(|(replicas, labels, containers)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (_, image, ports))| {
                    let ports: Vec<Value> = ports.iter().map(|p| json!({"containerPort": p})).collect();
                    let mut container = json!({"name": name, "ports": ports});
                    if let Some(image) = image {
                        container["image"] = image.into();
                    }
                    container
                })
                .collect();
            let mut object = containers_with(containers);
            object["metadata"]["labels"] = json!(labels);
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = replicas.into();
            }
            object
        })
    }

    fn containers_with(list: Vec<Value>) -> Value {
        containers(Value::Array(list))
    }

    proptest! {
        /// Applying twice is applying once, and an applied field has the applied value.
        #[test]
        fn applying_again_changes_nothing(a in spec(), b in spec(), c in spec()) {
            let live = by(None, &a, "a", true).expect("applied");
            let live = by(Some(&live), &b, "b", true).expect("applied");
            let once = by(Some(&live), &c, "a", true).expect("applied");
            prop_assert_eq!(&by(Some(&once), &c, "a", false).expect("no conflict with oneself"), &once);
            let wanted = compare(Some(&merge::merge(once.clone(), &c, ty(), "").expect("merged")), Some(&once), ty());
            prop_assert_eq!(wanted, compare::Difference::default());
        }

        /// One manager alone gets exactly what it applies, whatever it applied before.
        #[test]
        fn the_last_word_of_a_lone_manager_is_the_object(a in spec(), b in spec()) {
            let live = by(None, &a, "a", false).expect("applied");
            let mut after = by(Some(&live), &b, "a", false).expect("applied");
            let mut fresh = by(None, &b, "a", false).expect("applied");
            for object in [&mut after, &mut fresh] {
                empty_containers(object);
            }
            prop_assert_eq!(after, fresh);
        }

        /// A record that is written and read is the same.
        #[test]
        fn fields_survive_writing(a in spec()) {
            let set = Fields::of(&a, ty());
            prop_assert_eq!(Fields::read(&set.write()), set);
        }
    }

    /// Lists and maps that became empty may stay as empty ones or go.
    fn empty_containers(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(empty_containers);
                map.retain(|_, v| !v.as_object().is_some_and(|m| m.is_empty()) && !v.as_array().is_some_and(Vec::is_empty));
            }
            Value::Array(items) => {
                items.iter_mut().for_each(empty_containers);
                items.sort_by_key(|i| i["name"].as_str().map(str::to_owned));
            }
            _ => {}
        }
    }
}
