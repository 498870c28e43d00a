use serde_json::json;

use super::*;

/// A field with a length before it.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(content);
    out
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn document(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let head = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &head), bytes(2, object), bytes(3, b""), bytes(4, b"")].concat()
}

#[test]
fn zero_values_of_plain_fields_are_dropped_and_those_of_pointers_kept() {
    let metadata = [
        bytes(1, b"web"),
        bytes(2, b""),
        bytes(8, b""),
        bytes(11, &[bytes(1, b"app"), bytes(2, b"web")].concat()),
    ];
    let label = [bytes(1, b"app"), bytes(2, b"web")].concat();
    let spec = [number(1, 0), bytes(2, &bytes(1, &label)), number(5, 0), bytes(4, b"")];
    let object = [bytes(1, &metadata.concat()), bytes(2, &spec.concat()), bytes(3, b"")].concat();
    assert_eq!(
        decode(&document("apps/v1", "Deployment", &object)),
        Ok(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}}}))
    );
}

#[test]
fn times_quantities_numbers_or_names_and_inlined_fields_are_json_as_kubernetes_writes_it() {
    // 2026-01-01T00:00:00Z is 1767225600 seconds.
    let seconds = [&[1 << 3], &[0x80, 0xf2, 0xd6, 0xca, 0x06][..]].concat();
    let limits = bytes(1, &[bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat());
    let get = [bytes(1, b"/healthz"), bytes(2, &[number(1, 1), bytes(3, b"http")].concat())].concat();
    let probe = [bytes(1, &bytes(2, &get)), number(2, 5)].concat();
    let container = [bytes(1, b"web"), bytes(8, &limits), bytes(11, &probe)].concat();
    let object = [bytes(1, &bytes(8, &seconds)), bytes(2, &bytes(2, &container))].concat();
    assert_eq!(
        decode(&document("v1", "Pod", &object)),
        Ok(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "web", "resources": {"limits": {"cpu": "500m"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 5}}]}}))
    );
}

#[test]
fn an_empty_rule_is_not_no_rule() {
    let peer = bytes(2, &bytes(2, b""));
    let spec = [bytes(1, b""), bytes(2, &peer), bytes(3, b"")].concat();
    let policy =
        decode(&document("networking.k8s.io/v1", "NetworkPolicy", &bytes(2, &spec))).expect("readable");
    assert_eq!(policy["spec"], json!({"ingress": [{"from": [{"namespaceSelector": {}}]}], "egress": [{}]}));
}

#[test]
fn what_is_malformed_or_unknown_is_refused() {
    assert_eq!(decode(b"{}"), Err(Error::Prefix));
    assert_eq!(decode(&document("v1", "Pod", &[0xff; 12])), Err(Error::Malformed));
    assert_eq!(decode(&document("v1", "Pod", &[2, 50, 1])).err(), Some(Error::Malformed));
    assert!(matches!(decode(&document("v2", "Pod", &[])), Err(Error::Unknown(_))));
    assert!(matches!(decode(&document("v1", "Pod", &number(15, 1))), Err(Error::Unknown(_))));
    assert!(matches!(decode(&document("v1", "Pod", &bytes(1, &bytes(1, &[0xff])))), Err(Error::BadValue(_))));
    let all = document("v1", "Pod", &bytes(1, &bytes(1, b"web")));
    for cut in 0..all.len() {
        // Never a panic, whatever is missing.
        drop(decode(&all[..cut]));
    }
}
