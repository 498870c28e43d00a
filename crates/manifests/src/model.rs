//! Loaded objects as the state of a cluster, for static analysis.

use std::collections::BTreeSet;
use std::sync::Arc;

use kilter_model::{Cluster, Event, Namespace, Origin, PolicyRule};
use kilter_objects::{expand, to_event};

use crate::{Error, Lines, Loaded, Object};

/// What the objects say, as events: namespaces (also those that objects only mention), policies,
/// Services, and one representative pod per workload.
///
/// # Errors
/// An object whose fields have no meaning.
pub fn events(loaded: &Loaded) -> Result<Vec<Event>, Error> {
    let mut events = vec![];
    let mut lines = Lines::default();
    let mut mentioned: BTreeSet<Arc<str>> = BTreeSet::new();
    for object in &loaded.objects {
        match kilter_objects::value::namespace(&object.value) {
            "" => {}
            namespace => {
                mentioned.insert(namespace.into());
            }
        }
        // As the API would store it: a label without a value has the empty one, for one thing.
        let mut stored = object.value.clone();
        kilter_objects::default(&mut stored);
        let mut placed = |source: kilter_objects::Error| {
            let origin = lines.of_field(&object.value, &object.origin, &source.field);
            Error::Meaningless { origin, source }
        };
        let pods = expand(&stored, object.origin.clone()).map_err(&mut placed)?;
        if !pods.is_empty() {
            events.extend(pods.into_iter().map(Event::Pod));
        } else if let Some(mut event) = to_event(&stored, object.origin.clone()).map_err(&mut placed)? {
            point_at_rules(&mut event, object, &mut lines);
            events.push(event);
        }
    }
    let declared: BTreeSet<Arc<str>> = events
        .iter()
        .filter_map(|e| match e {
            Event::Namespace(n) => Some(n.name.clone()),
            _ => None,
        })
        .collect();
    events.extend(mentioned.difference(&declared).map(|name| Event::Namespace(implied(name))));
    Ok(events)
}

/// Gives each rule of a policy its own line instead of the policy's.
fn point_at_rules(event: &mut Event, object: &Object, lines: &mut Lines) {
    let (ingress, egress): (Vec<&mut PolicyRule>, Vec<&mut PolicyRule>) = match event {
        Event::NetworkPolicy(it) => {
            (it.ingress.iter_mut().flatten().collect(), it.egress.iter_mut().flatten().collect())
        }
        Event::ClusterNetworkPolicy(it) => (
            it.ingress.iter_mut().map(|rule| &mut rule.matches).collect(),
            it.egress.iter_mut().map(|rule| &mut rule.matches).collect(),
        ),
        _ => return,
    };
    for (field, rules) in [("ingress", ingress), ("egress", egress)] {
        for (i, rule) in rules.into_iter().enumerate() {
            rule.origin = lines.of(&object.value, &object.origin, &format!("/spec/{field}/{i}"));
        }
    }
}

/// A namespace that objects mention and nothing declares: it exists when they are applied, or
/// they cannot be.
fn implied(name: &Arc<str>) -> Namespace {
    let labels = [(Arc::from("kubernetes.io/metadata.name"), name.clone())];
    Namespace { name: name.clone(), labels: labels.into(), origin: Origin::Builtin }
}

/// The cluster in which these objects, and nothing else, are applied.
///
/// # Errors
/// As [`events`].
pub fn cluster(loaded: &Loaded) -> Result<Cluster, Error> {
    Ok(Cluster::from_events(events(loaded)?))
}
