//! A chain of plugins: what the plugin before this one returned, and what is returned after it.
//!
//! Results are handled as JSON here: fields that Kilter does not know must come out as they went in.

use serde_json::{Value, json};

const LISTS: [&str; 3] = ["interfaces", "ips", "routes"];

/// Says what makes a value no result of a plugin.
pub fn check(result: &Value) -> Result<(), String> {
    let fields = result.as_object().ok_or_else(|| "it is not an object".to_owned())?;
    let wrong =
        LISTS.into_iter().find(|list| fields.get(*list).is_some_and(|v| !v.is_array() && !v.is_null()));
    wrong.map_or(Ok(()), |list| Err(format!("its {list} is not a list")))
}

/// The result of a chain up to and with this plugin: what came before, then what was added to it.
/// Addresses name their interface by its place in the list, and ours move behind the others.
pub fn extend(mut before: Value, own: Value) -> Value {
    let shift = before["interfaces"].as_array().map_or(0, Vec::len);
    for list in LISTS {
        let mut added = own[list].as_array().cloned().unwrap_or_default();
        for address in added.iter_mut().filter(|_| list == "ips") {
            if let Some(index) = address["interface"].as_u64() {
                address["interface"] = json!(index + shift as u64);
            }
        }
        match before[list].as_array_mut() {
            Some(there) => there.extend(added),
            None => before[list] = added.into(),
        }
    }
    before["cniVersion"] = own["cniVersion"].clone();
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_stays_and_indexes_move() {
        let before = json!({
            "cniVersion": "1.1.0", "dns": { "search": ["x"] }, "routes": null, "later": 7,
            "interfaces": [{ "name": "br0" }],
            "ips": [{ "address": "10.0.0.2/24", "interface": 0 }],
        });
        let own = json!({
            "cniVersion": "1.1.0", "dns": {},
            "interfaces": [{ "name": "klt0" }, { "name": "eth1" }],
            "ips": [{ "address": "10.244.1.7/32", "interface": 1 }],
            "routes": [{ "dst": "0.0.0.0/0" }],
        });
        let expected = json!({
            "cniVersion": "1.1.0", "dns": { "search": ["x"] }, "later": 7,
            "interfaces": [{ "name": "br0" }, { "name": "klt0" }, { "name": "eth1" }],
            "ips": [
                { "address": "10.0.0.2/24", "interface": 0 },
                { "address": "10.244.1.7/32", "interface": 2 },
            ],
            "routes": [{ "dst": "0.0.0.0/0" }],
        });
        assert_eq!(extend(before, own), expected);
    }

    #[test]
    fn what_is_no_result_is_told() {
        assert_eq!(check(&json!([])).unwrap_err(), "it is not an object");
        assert_eq!(check(&json!({ "ips": {} })).unwrap_err(), "its ips is not a list");
        assert!(check(&json!({ "ips": null, "interfaces": [] })).is_ok());
    }
}
