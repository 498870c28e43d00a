//! The garbage collector: what an owner leaves behind. And Events, which nobody owns, after an hour.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::meta;
use crate::registry::{FOREGROUND, Intent, ORPHAN, Part, Registry, key_target};
use crate::request::{DeleteOptions, Propagation};
use crate::resources::Resource;
use crate::status::Status;
use crate::store::{Change, Object, Place};

/// How long an Event is kept (kube-apiserver `--event-ttl`).
const EVENT_TTL: SignedDuration = SignedDuration::from_hours(1);

/// Runs until told to stop.
pub async fn run(registry: Arc<Registry>, stop: CancellationToken) {
    let mut news = registry.store.news();
    let mut seen = 0;
    let mut expiry = tokio::time::interval(Duration::from_secs(60));
    let mut old = Old::new(registry.store.revision());
    loop {
        let newest = *news.borrow_and_update();
        match registry.store.all_after(seen) {
            Ok(changes) => {
                for (i, (resource, change)) in changes.into_iter().enumerate() {
                    if is_news(&change) {
                        consider(&registry, resource, &change.object, change.deleted);
                    }
                    // Thousands of pods may go at once; requests must not wait for all of them.
                    if i % 32 == 31 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            // Too far behind to follow: look at everything.
            Err(_) => sweep(&registry),
        }
        seen = newest;
        tokio::select! {
            () = stop.cancelled() => return,
            _ = news.changed() => {}
            _ = expiry.tick() => {
                old.pass(Instant::now(), registry.store.revision());
                expire_events(&registry, old.revision);
            }
        }
    }
}

fn sweep(registry: &Registry) {
    for resource in registry.store.resources() {
        for object in registry.store.list(resource, None).1 {
            consider(registry, resource, &object, false);
        }
    }
}

/// Whether a change can matter here: most are to the status of objects whose owners stay.
fn is_news(change: &Change) -> bool {
    let same_owners = change.before.as_ref().is_some_and(|before| before.owners == change.object.owners);
    change.deleted || change.object.deleting || !same_owners
}

/// Looks at an object that changed.
fn consider(registry: &Registry, resource: &'static Resource, object: &Object, deleted: bool) {
    if deleted {
        for dependent in registry.store.dependents_of(&object.uid) {
            report(collect(registry, &dependent), &dependent);
        }
        // An owner may have been waiting for this one to go.
        for owner in object.owners.iter().filter_map(|uid| registry.store.place_of(uid)) {
            report(finish(registry, &owner), &owner);
        }
        return;
    }
    let place = (resource, object.key.clone());
    if object.deleting {
        report(finish(registry, &place), &place);
    } else if !object.owners.is_empty() {
        report(collect(registry, &place), &place);
    }
}

/// Failures here are races that the next change resolves, or bugs; neither may be silent.
fn report(result: Result<(), Status>, (resource, key): &Place) {
    match result {
        Err(status) if status.reason != "NotFound" && status.reason != "Conflict" => {
            tracing::warn!(resource = resource.group_resource(), %key, %status, "garbage collection failed");
        }
        _ => {}
    }
}

const BACKGROUND: DeleteOptions<'static> = DeleteOptions {
    dry_run: false,
    grace: None,
    propagation: Some(Propagation::Background),
    uid: None,
    revision: None,
};

/// Deletes an object whose owners are all gone; forgets those that are, while others remain.
fn collect(registry: &Registry, (resource, key): &Place) -> Result<(), Status> {
    let target = key_target(resource, key);
    let object = registry.get(&target)?;
    if object.deleting {
        return Ok(());
    }
    let value = object.value();
    let references = value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let (mut solid, mut waiting, mut absent) = (0, 0, 0);
    for reference in &references {
        match owner(registry, reference) {
            Owner::Solid => solid += 1,
            Owner::Waiting => waiting += 1,
            Owner::Absent => absent += 1,
        }
    }
    if references.is_empty() || (solid > 0 && waiting + absent == 0) {
        return Ok(());
    }
    if solid > 0 {
        let mut keep = |mut value: Value| {
            if let Some(references) = value["metadata"]["ownerReferences"].as_array_mut() {
                references.retain(|r| matches!(owner(registry, r), Owner::Solid));
            }
            Ok(value)
        };
        return registry.modify(&target, Part::Whole, &Intent::SERVER, &mut keep).map(|_| ());
    }
    // A dependent of an owner that waits goes the same way, down to the last of its own dependents.
    let foreground = waiting > 0 && !registry.store.dependents_of(&object.uid).is_empty();
    let propagation = match meta::finalizers(&value).find(|f| *f == ORPHAN || *f == FOREGROUND) {
        Some(ORPHAN) => Propagation::Orphan,
        Some(_) => Propagation::Foreground,
        None if foreground => Propagation::Foreground,
        None => Propagation::Background,
    };
    let options = DeleteOptions { propagation: Some(propagation), uid: Some(&object.uid), ..BACKGROUND };
    registry.delete(&target, &options).map(|_| ())
}

enum Owner {
    /// It is there.
    Solid,
    /// It is there until its dependents are gone.
    Waiting,
    /// It is gone.
    Absent,
}

fn owner(registry: &Registry, reference: &Value) -> Owner {
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    // Of kinds that are not served here nothing is known, so nothing is concluded.
    if registry.store.catalogue().of_kind(text("apiVersion"), text("kind")).is_none() {
        return Owner::Solid;
    }
    let Some((resource, key)) = registry.store.place_of(text("uid")) else { return Owner::Absent };
    match registry.store.get(resource, &key) {
        None => Owner::Absent,
        Some(found) if found.deleting && meta::finalizers(&found.value()).any(|f| f == FOREGROUND) => {
            Owner::Waiting
        }
        Some(_) => Owner::Solid,
    }
}

/// Does what an owner that is being deleted waits for, and lets it go when that is done.
fn finish(registry: &Registry, (resource, key): &Place) -> Result<(), Status> {
    let target = key_target(resource, key);
    let object = registry.get(&target)?;
    let value = object.value();
    if !object.deleting {
        return Ok(());
    }
    let dependents = registry.store.dependents_of(&object.uid);
    if meta::finalizers(&value).any(|f| f == ORPHAN) {
        for dependent in &dependents {
            forget_owner(registry, dependent, &object.uid)?;
        }
        return drop_finalizer(registry, &target, ORPHAN);
    }
    if meta::finalizers(&value).any(|f| f == FOREGROUND) {
        for dependent in &dependents {
            report(collect(registry, dependent), dependent);
        }
        let blocked = registry
            .store
            .dependents_of(&object.uid)
            .iter()
            .any(|place| blocks(registry, place, &object.uid));
        if !blocked {
            return drop_finalizer(registry, &target, FOREGROUND);
        }
    }
    Ok(())
}

fn blocks(registry: &Registry, (resource, key): &Place, uid: &str) -> bool {
    let Some(object) = registry.store.get(resource, key) else { return false };
    let value = object.value();
    let references = value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    references.filter(|r| r["uid"] == uid).any(|r| r["blockOwnerDeletion"] == true)
}

fn forget_owner(registry: &Registry, (resource, key): &Place, uid: &str) -> Result<(), Status> {
    let mut forget = |mut value: Value| {
        if let Some(references) = value["metadata"]["ownerReferences"].as_array_mut() {
            references.retain(|r| r["uid"] != uid);
        }
        Ok(value)
    };
    match registry.modify(&key_target(resource, key), Part::Whole, &Intent::SERVER, &mut forget) {
        Err(status) if status.reason != "NotFound" => Err(status),
        _ => Ok(()),
    }
}

fn drop_finalizer(
    registry: &Registry,
    target: &crate::request::Target,
    finalizer: &str,
) -> Result<(), Status> {
    let mut drop = |mut value: Value| {
        if let Some(finalizers) = value["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|f| f != finalizer);
        }
        Ok(value)
    };
    registry.modify(target, Part::Whole, &Intent::SERVER, &mut drop).map(|_| ())
}

/// Up to which revision what was written may be older than [`EVENT_TTL`]: only of that need the times be read.
struct Old {
    revision: u64,
    /// Moments and the revisions of then.
    later: VecDeque<(Instant, u64)>,
}

impl Old {
    /// When what is there may have been written nobody knows.
    fn new(revision: u64) -> Self {
        Self { revision, later: VecDeque::new() }
    }

    fn pass(&mut self, now: Instant, revision: u64) {
        self.later.push_back((now, revision));
        while let Some((_, revision)) = self.later.pop_front_if(|(at, _)| now.duration_since(*at) >= EVENT_TTL.unsigned_abs()) {
            self.revision = revision;
        }
    }
}

fn expire_events(registry: &Registry, old: u64) {
    let limit = meta::time(Timestamp::now() - EVENT_TTL);
    let events = Resource::core("events");
    for object in registry.store.list(events, None).1.into_iter().filter(|object| object.revision <= old) {
        let value = object.value();
        let moments = ["creationTimestamp"].map(|k| &value["metadata"][k]).into_iter();
        let last = moments.chain([&value["lastTimestamp"], &value["series"]["lastObservedTime"]]);
        if last.filter_map(Value::as_str).max().is_some_and(|l| l < limit.as_str()) {
            let place = (events, object.key.clone());
            report(registry.delete(&key_target(events, &object.key), &BACKGROUND).map(|_| ()), &place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_within_the_hour_is_not_looked_at() {
        let start = Instant::now();
        let mut old = Old::new(7);
        let after = |minutes| start + Duration::from_mins(minutes);
        for (minutes, revision, expected) in [(0, 7, 7), (1, 40, 7), (59, 50, 7), (60, 60, 7), (61, 70, 40), (121, 80, 70)] {
            old.pass(after(minutes), revision);
            assert_eq!(old.revision, expected, "after {minutes} minutes");
        }
    }
}
