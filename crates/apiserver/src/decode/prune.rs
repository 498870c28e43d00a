use serde_json::Value;

/// Removes fields that are null: for a typed object they say nothing.
pub fn nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(nulls),
        _ => {}
    }
}

/// Removes the field at a path like `spec.containers[1].prots`. Keys may contain dots, so each key
/// that the path could begin with is tried.
pub fn remove(value: &mut Value, path: &str) -> bool {
    match value {
        Value::Object(map) => {
            if map.remove(path).is_some() {
                return true;
            }
            map.iter_mut().any(|(key, inner)| match path.strip_prefix(key.as_str()) {
                Some(rest) => match rest.strip_prefix('.') {
                    Some(rest) => remove(inner, rest),
                    None => rest.starts_with('[') && remove(inner, rest),
                },
                None => false,
            })
        }
        Value::Array(items) => {
            let Some((index, rest)) = path.strip_prefix('[').and_then(|p| p.split_once(']')) else {
                return false;
            };
            let item = index.parse::<usize>().ok().and_then(|i| items.get_mut(i));
            item.is_some_and(|item| remove(item, rest.strip_prefix('.').unwrap_or(rest)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_reach_through_lists_and_dotted_keys() {
        let mut value = json!({"spec": {"list": [{"a": 1}, {"a": 1, "x.y": {"z": 2}}]}, "spec.q": 1});
        assert!(remove(&mut value, "spec.list[1].x.y.z"));
        assert!(remove(&mut value, "spec.q"));
        assert!(!remove(&mut value, "spec.list[7].a"));
        assert_eq!(value, json!({"spec": {"list": [{"a": 1}, {"a": 1, "x.y": {}}]}}));
    }

    #[test]
    fn nulls_go_at_any_depth() {
        let mut value = json!({"a": null, "b": [{"c": null, "d": 1}]});
        nulls(&mut value);
        assert_eq!(value, json!({"b": [{"d": 1}]}));
    }
}
