use std::sync::Arc;

use kilter_model::Endpoint;

/// Which endpoints are for the clients of a node, where their hints are to be followed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nearness<'a> {
    /// Hints say nothing here: all of them.
    Any,
    /// Those that are recommended to this node.
    Node(&'a str),
    /// Those that are recommended to its zone.
    Zone(&'a str),
}

impl<'a> Nearness<'a> {
    /// What the ready endpoints of a port recommend to the clients of a node. A kind of hint is followed only
    /// if every one of them has it, and one of them names this node, or its zone: half a recommendation would
    /// send all clients to some (kube-proxy's rule, KEP-2433 and KEP-3015).
    pub(crate) fn recommended<'e>(
        ready: impl Iterator<Item = &'e Endpoint> + Clone,
        node: &'a str,
        zone: Option<&'a Arc<str>>,
    ) -> Self {
        let mut all = ready.clone().peekable();
        if all.peek().is_none() {
            return Nearness::Any;
        }
        let by_node = Nearness::Node(node);
        if all.clone().all(|it| !it.hints.nodes.is_empty()) && all.clone().any(|it| by_node.includes(it)) {
            return by_node;
        }
        let Some(by_zone) = zone.map(|zone| Nearness::Zone(zone)) else { return Nearness::Any };
        let named = all.clone().all(|it| !it.hints.zones.is_empty()) && all.any(|it| by_zone.includes(it));
        if named { by_zone } else { Nearness::Any }
    }

    /// Whether an endpoint is one of them.
    pub(crate) fn includes(&self, endpoint: &Endpoint) -> bool {
        match self {
            Nearness::Any => true,
            Nearness::Node(node) => endpoint.hints.nodes.iter().any(|it| **it == **node),
            Nearness::Zone(zone) => endpoint.hints.zones.iter().any(|it| **it == **zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use kilter_model::Hints;

    use super::*;

    fn endpoint(zones: &[&str], nodes: &[&str]) -> Endpoint {
        let list = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        Endpoint {
            address: [10, 244, 0, 1].into(),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            zone: None,
            hints: Hints { zones: list(zones), nodes: list(nodes) },
            pod: None,
            hostname: None,
        }
    }

    #[test]
    fn hints_are_followed_where_all_have_them_and_one_names_the_client() {
        let zone: Arc<str> = "z1".into();
        let of = |endpoints: &[(&[&str], &[&str])], zone| {
            let all: Vec<Endpoint> = endpoints.iter().map(|(zones, nodes)| endpoint(zones, nodes)).collect();
            Nearness::recommended(all.iter(), "n1", zone)
        };
        let (any, by_node, by_zone) = (Nearness::Any, Nearness::Node("n1"), Nearness::Zone("z1"));
        for (endpoints, expected, why) in [
            (&[][..], any, "nobody"),
            (&[(&[][..], &[][..])], any, "no hints"),
            (&[(&["z1"], &["n1"]), (&["z2"], &["n2"])], by_node, "the node before the zone"),
            (&[(&["z1"], &["n3"]), (&["z2"], &["n2"])], by_zone, "none for this node: the zone"),
            (&[(&["z1"], &["n1"]), (&["z2"], &[])], by_zone, "one without a node: the zone"),
            (&[(&["z1"], &[]), (&[], &[])], any, "one without a zone: all"),
            (&[(&["z2"], &[]), (&["z3"], &[])], any, "none for this zone: all"),
            (&[(&["z2", "z1"], &[]), (&["z3"], &[])], by_zone, "one for several zones"),
        ] {
            assert_eq!(of(endpoints, Some(&zone)), expected, "{why}");
        }
        assert_eq!(of(&[(&["z1"], &[])], None), any, "a node of no known zone");
        assert_eq!(of(&[(&["z1"], &["n1"])], None), by_node, "which its name does not need");
    }
}
