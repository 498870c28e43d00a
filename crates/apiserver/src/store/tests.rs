use serde_json::json;

use super::*;

fn configmaps() -> &'static Resource {
    Resource::core("configmaps")
}

fn value(namespace: &str, name: &str, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": data},
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}/{name}")}})
}

fn store(history: usize) -> Store {
    let store = Store::new(history);
    for name in ["a", "b"] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": name}});
        store.create(Resource::core("namespaces"), namespace).expect("a new namespace");
    }
    store
}

fn names(objects: &[Arc<Object>]) -> Vec<String> {
    objects.iter().map(|o| format!("{}@{}", o.key, o.revision)).collect()
}

#[test]
fn revisions_are_global_and_written_into_the_object() {
    let store = store(10);
    let first = store.create(configmaps(), value("a", "x", "1")).expect("created");
    let second = store.create(configmaps(), value("b", "x", "1")).expect("created");
    assert_eq!(second.revision, first.revision + 1);
    assert_eq!(second.value()["metadata"]["resourceVersion"], second.revision.to_string());
    assert_eq!(store.list(configmaps(), Some("a")).1.len(), 1);
    assert_eq!(store.list(configmaps(), None).1.len(), 2);
}

#[test]
fn a_write_needs_its_namespace_and_the_expected_revision() {
    let store = store(10);
    assert!(matches!(store.create(configmaps(), value("c", "x", "1")), Err(WriteError::NoNamespace)));
    let first = store.create(configmaps(), value("a", "x", "1")).expect("created");
    assert!(matches!(store.create(configmaps(), value("a", "x", "1")), Err(WriteError::Exists(_))));
    let second = store.update(configmaps(), first.revision, value("a", "x", "2")).expect("updated");
    let stale = store.update(configmaps(), first.revision, value("a", "x", "3"));
    assert!(matches!(stale, Err(WriteError::Changed(found)) if found.revision == second.revision));
    assert!(matches!(store.delete(configmaps(), &second.key, first.revision), Err(WriteError::Changed(_))));
    let last = store.delete(configmaps(), &second.key, second.revision).expect("deleted");
    assert_eq!(last.revision, second.revision + 1);
    assert!(matches!(store.delete(configmaps(), &second.key, last.revision), Err(WriteError::Missing)));
}

#[test]
fn changes_are_read_from_a_cursor_until_the_ring_has_forgotten() {
    let store = store(3);
    let start = store.revision();
    let mut object = store.create(configmaps(), value("a", "x", "0")).expect("created");
    for i in 1..3 {
        object =
            store.update(configmaps(), object.revision, value("a", "x", &i.to_string())).expect("updated");
    }
    assert_eq!(store.after(configmaps(), start, 10).expect("known").len(), 3);
    assert_eq!(store.after(configmaps(), start, 2).expect("known").len(), 2);
    store.delete(configmaps(), &object.key, object.revision).expect("deleted");
    let error = store.after(configmaps(), start, 10).expect_err("forgotten");
    assert_eq!(error, TooOld { asked: start, oldest: start + 1 });
    // What happens elsewhere does not age a quiet resource.
    assert!(store.after(Resource::core("secrets"), start, 10).expect("known").is_empty());
}

#[test]
fn an_earlier_state_is_the_present_one_with_changes_undone() {
    let store = store(100);
    let x = store.create(configmaps(), value("a", "x", "0")).expect("created");
    let y = store.create(configmaps(), value("a", "y", "0")).expect("created");
    let then = store.revision();
    let expected = names(&store.list(configmaps(), None).1);
    store.update(configmaps(), y.revision, value("a", "y", "1")).expect("updated");
    store.delete(configmaps(), &x.key, x.revision).expect("deleted");
    store.create(configmaps(), value("b", "z", "0")).expect("created");
    assert_ne!(names(&store.list(configmaps(), None).1), expected);
    assert_eq!(names(&store.list_at(configmaps(), None, None, then).expect("known")), expected);
    assert_eq!(
        names(&store.list_at(configmaps(), Some("a"), Some(&x.key), then).expect("known")),
        expected[1..]
    );
}

#[test]
fn owners_are_indexed_through_updates_and_deletion() {
    let store = store(10);
    let mut owned = value("a", "x", "0");
    owned["metadata"]["ownerReferences"] = json!([{"uid": "boss"}]);
    let object = store.create(configmaps(), owned).expect("created");
    assert_eq!(store.dependents_of("boss").len(), 1);
    let object = store.update(configmaps(), object.revision, value("a", "x", "1")).expect("updated");
    assert_eq!(store.dependents_of("boss").len(), 0);
    assert!(store.place_of(&object.uid).is_some());
    store.delete(configmaps(), &object.key, object.revision).expect("deleted");
    assert!(store.place_of(&object.uid).is_none());
}
