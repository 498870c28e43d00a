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

/// Everything that clients could see of a store.
fn seen(store: &Store) -> (u64, Vec<String>) {
    let all = Resource::all().iter().filter(|r| r.is_storage()).flat_map(|r| store.list(r, None).1);
    (store.revision(), all.map(|o| String::from_utf8_lossy(&o.json).into_owned()).collect())
}

mod journalled {
    use proptest::prelude::*;

    use super::*;

    /// One write: which object, and whether it is deleted.
    fn write(store: &Store, name: &str, delete: bool, data: &str) {
        let key = NamespacedName::new("a", name);
        match store.get(configmaps(), &key) {
            Some(found) if delete => {
                store.delete(configmaps(), &key, found.revision).expect("deleted");
            }
            Some(found) => {
                store.update(configmaps(), found.revision, value("a", name, data)).expect("updated");
            }
            None => {
                store.create(configmaps(), value("a", name, data)).expect("created");
            }
        }
    }

    fn begin(store: &Store) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "uid": "a"}});
        store.create(Resource::core("namespaces"), namespace).expect("a new namespace");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// A store whose process dies at any byte of any write is, when it is opened again, as it
        /// was after one of its writes; and nothing that was answered before is lost.
        #[test]
        fn a_kill_at_any_point_loses_only_what_was_not_answered(
            writes in prop::collection::vec(("[xyz]", any::<bool>(), "[a-c]{0,40}"), 1..30),
            cut in 0usize..400,
        ) {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("journal");
            let store = Store::open(100, &path).expect("a journal");
            begin(&store);
            let mut states = vec![(std::fs::metadata(&path).expect("there").len(), seen(&store))];
            for (name, delete, data) in &writes {
                write(&store, name, *delete, data);
                states.push((std::fs::metadata(&path).expect("there").len(), seen(&store)));
            }
            drop(store);
            let whole = std::fs::read(&path).expect("readable");
            let cut = whole.len().saturating_sub(cut).max(states[0].0 as usize);
            std::fs::write(&path, &whole[..cut]).expect("written");
            let store = Store::open(100, &path).expect("a journal");
            let expected = states.iter().rev().find(|(length, _)| *length <= cut as u64).expect("one");
            prop_assert_eq!(&seen(&store), &expected.1);
            // It goes on from there, and a watcher too.
            let (revision, _) = expected.1;
            write(&store, "x", false, "after");
            prop_assert_eq!(store.revision(), revision + 1);
            prop_assert_eq!(store.after(configmaps(), revision, 10).expect("known").len(), 1);
        }
    }

    #[test]
    fn a_journal_that_was_written_anew_has_the_state_and_not_the_history() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let store = Store::open(10, &path).expect("a journal");
        begin(&store);
        let start = store.revision();
        let large = "x".repeat(1 << 20);
        for _ in 0..20 {
            write(&store, "x", false, &large);
        }
        assert!(std::fs::metadata(&path).expect("there").len() < 12 << 20);
        let expected = seen(&store);
        drop(store);
        let store = Store::open(10, &path).expect("a journal");
        assert_eq!(seen(&store), expected);
        assert!(store.after(configmaps(), start, 10).is_err(), "what is forgotten is said to be");
        assert!(store.place_of("a/x").is_some());
    }

    #[test]
    fn a_write_that_cannot_be_kept_does_not_happen() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let store = Store::open(10, &path).expect("a journal");
        begin(&store);
        let before = seen(&store);
        // A file that takes nothing more: the descriptor is only readable.
        store.lock().journal.as_mut().expect("open").stand_in(std::fs::File::open(&path).expect("readable"));
        let refused = store.create(configmaps(), value("a", "x", "1"));
        assert!(matches!(refused, Err(WriteError::Journal(_))), "{refused:?}");
        assert_eq!(seen(&store), before);
    }
}
