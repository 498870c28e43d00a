use serde_json::{Value, json};

use super::{Fields, child, children, made, pod, set, text};

pub(super) fn deployment(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = made(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", "25%");
            set(rolling, "maxSurge", "25%");
        }
    }
    pod::template(spec);
}

pub(super) fn replica_set(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    set(spec, "replicas", 1);
    pod::template(spec);
}

/// The one kind whose selector and labels may be left to its template.
pub(super) fn replication_controller(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    set(spec, "replicas", 1);
    let labels = spec.get("template").and_then(|t| t.pointer("/metadata/labels")).cloned();
    if let Some(labels) = labels {
        set(spec, "selector", labels.clone());
        if let Some(metadata) = child(fields, "metadata") {
            set(metadata, "labels", labels);
        }
    }
    if let Some(spec) = child(fields, "spec") {
        pod::template(spec);
    }
}

pub(super) fn stateful_set(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = made(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            set(rolling, "partition", 0);
        }
    }
    if let Some(retention) = made(spec, "persistentVolumeClaimRetentionPolicy") {
        set(retention, "whenDeleted", "Retain");
        set(retention, "whenScaled", "Retain");
    }
    for claim in children(spec, "volumeClaimTemplates") {
        pod::claim(claim);
    }
    pod::template(spec);
}

pub(super) fn daemon_set(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    set(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = made(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", 1);
            set(rolling, "maxSurge", 0);
        }
    }
    pod::template(spec);
}

pub(super) fn job(fields: &mut Fields) {
    if let Some(spec) = made(fields, "spec") {
        job_spec(spec);
    }
}

fn job_spec(spec: &mut Fields) {
    // Both absent means one of each; with parallelism alone, completions stay open (a work queue).
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    set(spec, "backoffLimit", 6);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "podReplacementPolicy", "TerminatingOrFailed");
    pod::template(spec);
}

pub(super) fn cron_job(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", Value::Bool(false));
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    set(spec, "jobTemplate", json!({}));
    if let Some(spec) = child(spec, "jobTemplate").and_then(|t| child(t, "spec")) {
        job_spec(spec);
    }
}
