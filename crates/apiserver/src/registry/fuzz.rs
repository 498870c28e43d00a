//! Objects made from the schemas of their kinds, right and wrong: each is stored as a valid object
//! or refused, never half of it, and never by a fault of the server's own.

use kilter_objects::schema;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Map, json};

use super::*;
use crate::decode;
use crate::request::FieldValidation;

/// How deep objects go.
const DEPTH: u32 = 7;

/// Makes a value of a schema; now and then one that is none.
struct Maker {
    rng: TestRng,
    /// One in so many values is of another shape than its schema's.
    wrong: u32,
}

impl Maker {
    fn one_in(&mut self, count: u32) -> bool {
        self.rng.next_u32().is_multiple_of(count)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.rng.next_u32() as usize % all.len()]
    }

    fn make(&mut self, value: &Value, depth: u32) -> Value {
        let reference = value["$ref"].as_str().or_else(|| value["allOf"][0]["$ref"].as_str());
        if let Some(name) = reference.and_then(|r| r.strip_prefix("#/components/schemas/")) {
            return self.make(&schema::definitions()[name], depth);
        }
        if self.one_in(self.wrong) {
            return self.anything();
        }
        match value["type"].as_str() {
            Some("object") if depth > 0 => self.object(value, depth),
            Some("object") => json!({}),
            Some("array") => {
                let count = if depth == 0 { 0 } else { self.rng.next_u32() % 3 };
                (0..count).map(|_| self.make(&value["items"], depth - 1)).collect()
            }
            Some("integer" | "number") => self.pick(&[json!(0), json!(1), json!(-1), json!(80), json!(i32::MAX), json!(i64::MAX)]).clone(),
            Some("boolean") => self.one_in(2).into(),
            Some("string") => self.text(value["format"].as_str()),
            // A quantity or a port.
            _ => self.pick(&[json!("1"), json!(8080), json!("http"), json!("100m"), json!("")]).clone(),
        }
    }

    fn object(&mut self, value: &Value, depth: u32) -> Value {
        let mut made = Map::new();
        let required: Vec<&str> = value["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, of) in value["properties"].as_object().into_iter().flatten() {
            if self.one_in(4) || (required.contains(&name.as_str()) && !self.one_in(8)) {
                made.insert(name.clone(), self.make(of, depth - 1));
            }
        }
        if value["additionalProperties"].is_object() {
            let key = self.text(None).as_str().unwrap_or_default().to_owned();
            made.insert(key, self.make(&value["additionalProperties"], depth - 1));
        }
        Value::Object(made)
    }

    fn text(&mut self, format: Option<&str>) -> Value {
        match format {
            Some("date-time") if !self.one_in(8) => json!("2026-01-01T00:00:00Z"),
            Some("byte") if !self.one_in(8) => json!("YQ=="),
            _ => self
                .pick(&[
                    "a", "web", "TCP", "ClusterIP", "10.96.0.7", "fd00::1", "10.0.0.0/8", "", "Always", "x/y", "A B",
                    "None", "apps/v1", "\u{0}", "ä", "*", "NodePort", "Never", "../..", "@every 1s",
                ])
                .to_owned()
                .into(),
        }
    }

    fn anything(&mut self) -> Value {
        let long = json!("x".repeat(300));
        let deep = (0..50).fold(json!(1), |inner, _| json!([inner]));
        self.pick(&[json!(null), json!(true), json!(-7), json!(1.5), json!("?"), json!([]), json!({}), json!([{}]), long, deep])
            .clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_no_object_of_its_kind_is_refused_and_not_stored(seed in any::<[u8; 32]>(), wrong in 20u32..400) {
        let registry = super::tests::registry();
        let mut maker = Maker { rng: TestRng::from_seed(RngAlgorithm::ChaCha, &seed), wrong };
        for resource in Resource::all().iter().filter(|r| r.is_storage()) {
            let Some(name) = schema::definition_of(resource.kind) else { continue };
            let mut value = maker.make(&schema::definitions()[name], DEPTH);
            if !value.is_object() {
                continue;
            }
            value["apiVersion"] = resource.kind.api_version().into();
            value["kind"] = resource.kind.kind.into();
            if value["metadata"].is_object() {
                value["metadata"]["name"] = "fuzzed".into();
                for bookkeeping in ["resourceVersion", "namespace", "generateName"] {
                    crate::meta::metadata(&mut value).remove(bookkeeping);
                }
            }
            let target = super::tests::collection(resource, None);
            let before = registry.store.list(resource, None).1.len();
            let decoded = decode::object(resource, &mut value, &[], FieldValidation::Ignore);
            let intent = Intent { author: Author::Client("fuzz".into()), dry_run: false };
            let stored = decoded.and_then(|_| registry.create(&target, value.clone(), &intent));
            let after = registry.store.list(resource, None).1.len();
            match stored {
                Ok(object) => {
                    prop_assert_eq!(after, before + 1);
                    let errors = kilter_objects::validate(&object.value());
                    prop_assert!(errors.is_empty(), "{}: {:?}", object.value(), errors);
                }
                Err(status) => {
                    prop_assert!((400..500).contains(&status.code.as_u16()), "{value}: {status:?}");
                    prop_assert_eq!(after, before, "{}", value);
                }
            }
        }
    }
}
