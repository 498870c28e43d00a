//! No object makes these functions panic, and each keeps its promise.

use kilter_model::Origin;
use kilter_objects::{default, expand, patch, to_event, to_gone_event, unknown_fields, validate};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// JSON with the keys that matter, in places where they do and where they do not.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(0), Just(80), Just(-1), Just(70_000), any::<i64>()].prop_map(Value::from),
        "(TCP|UDP|Always|http|10\\.0\\.0\\.0/8|delete|replace|a|-|[a-z./:]{0,8})".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    let keys = "(metadata|spec|template|containers|ports|port|containerPort|name|selector|matchLabels|labels|from|to\
                |ingress|egress|ipBlock|cidr|except|endPort|status|podIPs|ip|endpoints|addresses|conditions|type|env\
                |volumes|strategy|jobTemplate|items|resources|limits|protocol|targetPort|clusterIP|\\$patch\
                |\\$retainKeys|\\$setElementOrder/containers|\\$deleteFromPrimitiveList/finalizers|finalizers)";
    prop::string::string_regex(keys).unwrap()
}

fn object() -> impl Strategy<Value = Value> {
    let kinds = kilter_objects::kinds::KINDS;
    (0..kinds.len(), prop::collection::vec((key(), any_value()), 0..5)).prop_map(move |(kind, fields)| {
        let mut object: Map<String, Value> = fields.into_iter().collect();
        object.insert("apiVersion".into(), kinds[kind].api_version().into());
        object.insert("kind".into(), kinds[kind].kind.into());
        Value::Object(object)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects(mut object in object()) {
        let _ = (to_event(&object, Origin::Builtin), to_gone_event(&object), expand(&object, Origin::Builtin));
        let _ = (validate(&object), unknown_fields(&object));
        default(&mut object);
        let once = object.clone();
        default(&mut object);
        prop_assert_eq!(&object, &once, "defaulting is idempotent");
        // What validation lets pass, conversion understands: analysis and data plane see it all.
        if validate(&object).is_empty() {
            prop_assert!(to_event(&object, Origin::Builtin).is_ok(), "{}", object);
            prop_assert!(expand(&object, Origin::Builtin).is_ok(), "{}", object);
        }
    }

    #[test]
    fn patches(object in object(), patch in any_value()) {
        let mut target = object.clone();
        if patch::strategic(&mut target, &patch).is_err() {
            prop_assert_eq!(&target, &object, "a refused patch changes nothing");
        }
        let mut target = object.clone();
        if patch::json(&mut target, &json!([{"op": "add", "path": "/spec/a", "value": patch}, {"op": "test", "path": "/no", "value": 1}])).is_err() {
            prop_assert_eq!(&target, &object, "a refused patch changes nothing");
        }
        patch::merge(&mut target, &patch);
    }
}
