//! What the twins run: a client and servers under policies, and as many Services as are asked for.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};

use crate::datapath::PORT;
use crate::kilter::{NAMESPACE, NODES, POLICIES, pod};

/// The first of the Services that lead to `near`; the others' addresses follow it.
const FIXED: Ipv4Addr = Ipv4Addr::new(10, 96, 10, 1);
/// The first of those whose endpoint slices change.
const MOVING: Ipv4Addr = Ipv4Addr::new(10, 96, 250, 1);
const FRONTEND_PORT: u16 = 80;

/// Where a Service is that always leads to `near`; they are counted from 0.
pub(super) fn fixed(number: usize) -> SocketAddr {
    SocketAddr::from((after(FIXED, number), FRONTEND_PORT))
}

/// Where a Service is whose endpoint slice is nobody's but the benchmark's.
pub(super) fn moving(number: usize) -> SocketAddr {
    SocketAddr::from((after(MOVING, number), FRONTEND_PORT))
}

/// The name of such a Service, and of its slice.
pub(super) fn moving_name(number: usize) -> String {
    format!("moving-{number}")
}

fn after(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + number as u32)
}

/// Pods, policies, `fixed` Services that lead to `near`, and `moving` ones without a selector.
pub(super) fn manifests(fixed: usize, moving: usize) -> String {
    let mut text = String::from(POLICIES);
    for (name, role, node) in [
        ("client", "client", NODES[0]),
        ("caller", "client", NODES[0]),
        ("near", "near", NODES[0]),
        ("far", "far", NODES[1]),
    ] {
        text.push_str(&pod(name, role, node));
    }
    for number in 0..fixed {
        service(&mut text, &format!("fixed-{number}"), after(FIXED, number), "  selector: {role: near}\n");
    }
    for number in 0..moving {
        service(&mut text, &moving_name(number), after(MOVING, number), "");
    }
    text
}

fn service(text: &mut String, name: &str, address: Ipv4Addr, selector: &str) {
    let _ = write!(
        text,
        "---\n\
         apiVersion: v1\n\
         kind: Service\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec:\n  clusterIP: {address}\n{selector}  ports: [{{port: {FRONTEND_PORT}, targetPort: {PORT}}}]\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_addresses_of_their_own() {
        assert!(after(FIXED, 60_000) < MOVING);
        let text = manifests(10, 3);
        assert_eq!(text.matches("kind: Service").count(), 13);
        assert_eq!(text.matches("selector: {role: near}").count(), 10);
        assert!(text.contains(&format!("clusterIP: {}", moving(2).ip())));
    }
}
