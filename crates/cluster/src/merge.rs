use serde_json::{Map, Value};

/// The JSON merge patch (RFC 7386) that makes an object what is declared now: all that is
/// declared, and a deletion for what was declared `before` and no more is. What others wrote into
/// the object stays. Lists are replaced whole.
pub(crate) fn patch(before: Option<&Value>, now: &Value) -> Value {
    let mut patch = now.clone();
    if let (Some(Value::Object(before)), Value::Object(patch)) = (before, &mut patch) {
        add_deletions(before, patch);
    }
    patch
}

fn add_deletions(before: &Map<String, Value>, patch: &mut Map<String, Value>) {
    for (key, old) in before {
        match (old, patch.get_mut(key)) {
            (_, None) => {
                patch.insert(key.clone(), Value::Null);
            }
            (Value::Object(old), Some(Value::Object(new))) => add_deletions(old, new),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_longer_declared_is_deleted_at_every_depth() {
        let before = json!({"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "data": {"k": "v"}});
        let now = json!({"metadata": {"name": "a", "labels": {"x": "3"}}});
        let expected = json!({"metadata": {"name": "a", "labels": {"x": "3", "y": null}}, "data": null});
        assert_eq!(patch(Some(&before), &now), expected);
    }

    #[test]
    fn without_a_record_nothing_is_deleted() {
        assert_eq!(patch(None, &json!({"data": {}})), json!({"data": {}}));
    }
}
