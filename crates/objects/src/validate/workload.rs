use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::metadata;
use super::pod::{Within, template};
use super::report::Report;
use crate::Schedule;
use crate::convert;

pub(super) fn deployment(report: &mut Report, it: &apps::Deployment) {
    let spec = &it.spec;
    controller(report, &spec.selector, Some(&spec.template), Within::Controller);
    report.at_least("spec.replicas", spec.replicas, 0);
    report.at_least("spec.minReadySeconds", spec.min_ready_seconds, 0);
    report.at_least("spec.revisionHistoryLimit", spec.revision_history_limit, 0);
    if let Some(strategy) = &spec.strategy {
        report.one_of("spec.strategy.type", strategy.type_.as_deref(), &["Recreate", "RollingUpdate"]);
        if strategy.type_.as_deref() == Some("Recreate") && strategy.rolling_update.is_some() {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            report.forbidden("spec.strategy.rollingUpdate", why);
        }
    }
}

pub(super) fn replica_set(report: &mut Report, it: &apps::ReplicaSet) {
    let spec = &it.spec;
    controller(report, &spec.selector, spec.template.as_ref(), Within::Controller);
    report.at_least("spec.replicas", spec.replicas, 0);
}

pub(super) fn stateful_set(report: &mut Report, it: &apps::StatefulSet) {
    let spec = &it.spec;
    controller(report, &spec.selector, Some(&spec.template), Within::StatefulSet);
    report.at_least("spec.replicas", spec.replicas, 0);
    let policies = ["OrderedReady", "Parallel"];
    report.one_of("spec.podManagementPolicy", spec.pod_management_policy.as_deref(), &policies);
    let strategy = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
    report.one_of("spec.updateStrategy.type", strategy, &["OnDelete", "RollingUpdate"]);
}

pub(super) fn daemon_set(report: &mut Report, it: &apps::DaemonSet) {
    let spec = &it.spec;
    controller(report, &spec.selector, Some(&spec.template), Within::Controller);
    let strategy = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
    report.one_of("spec.updateStrategy.type", strategy, &["OnDelete", "RollingUpdate"]);
}

pub(super) fn replication_controller(report: &mut Report, it: &core::ReplicationController) {
    let Some(spec) = &it.spec else { return report.required("spec", "") };
    let selector = LabelSelector { match_labels: spec.selector.clone(), match_expressions: None };
    controller(report, &selector, spec.template.as_ref(), Within::Controller);
    report.at_least("spec.replicas", spec.replicas, 0);
}

pub(super) fn job(report: &mut Report, it: &batch::Job) {
    match &it.spec {
        Some(spec) => job_spec(report, "spec", spec),
        None => report.required("spec", ""),
    }
}

fn job_spec(report: &mut Report, path: &str, it: &batch::JobSpec) {
    let at = |field: &str| format!("{path}.{field}");
    template(report, &at("template"), &it.template, Within::Job);
    report.at_least(&at("parallelism"), it.parallelism, 0);
    report.at_least(&at("completions"), it.completions, 0);
    report.at_least(&at("backoffLimit"), it.backoff_limit, 0);
    report.at_least(&at("activeDeadlineSeconds"), it.active_deadline_seconds, 0);
    report.at_least(&at("ttlSecondsAfterFinished"), it.ttl_seconds_after_finished, 0);
    let mode = it.completion_mode.as_deref();
    report.one_of(&at("completionMode"), mode, &["Indexed", "NonIndexed"]);
    report.one_of(&at("podReplacementPolicy"), it.pod_replacement_policy.as_deref(), &["Failed", "TerminatingOrFailed"]);
    if mode == Some("Indexed") && it.completions.is_none() {
        report.required(&at("completions"), "when completion mode is Indexed");
    }
}

pub(super) fn cron_job(report: &mut Report, it: &batch::CronJob) {
    let spec = &it.spec;
    let zone = spec.time_zone.as_deref();
    if spec.schedule.is_empty() {
        report.required("spec.schedule", "");
    } else if let Err(why) = Schedule::parse(&spec.schedule, None) {
        report.invalid("spec.schedule", &spec.schedule, &why);
    } else if let Err(why) = Schedule::parse(&spec.schedule, zone) {
        report.invalid("spec.timeZone", zone.unwrap_or_default(), &why);
    }
    report.one_of("spec.concurrencyPolicy", spec.concurrency_policy.as_deref(), &["Allow", "Forbid", "Replace"]);
    report.at_least("spec.startingDeadlineSeconds", spec.starting_deadline_seconds, 0);
    report.at_least("spec.successfulJobsHistoryLimit", spec.successful_jobs_history_limit, 0);
    report.at_least("spec.failedJobsHistoryLimit", spec.failed_jobs_history_limit, 0);
    match &spec.job_template.spec {
        Some(job) => job_spec(report, "spec.jobTemplate.spec", job),
        None => report.required("spec.jobTemplate.spec", ""),
    }
}

/// Selector and template of a controller: a controller that does not select its own pods would
/// make new ones without end.
fn controller(
    report: &mut Report,
    selector: &LabelSelector,
    pods: Option<&core::PodTemplateSpec>,
    within: Within,
) {
    let Some(pods) = pods else { return report.required("spec.template", "") };
    template(report, "spec.template", pods, within);
    let empty = selector.match_labels.as_ref().is_none_or(|l| l.is_empty())
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty {
        return report.required("spec.selector", "a selector that matches the template's labels");
    }
    metadata::selector(report, "spec.selector", selector);
    let labels = convert::labels(pods.metadata.as_ref().and_then(|m| m.labels.as_ref()));
    if convert::selector(selector).is_ok_and(|s| !s.matches(&labels)) {
        let given = pods.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        report.invalid("spec.template.metadata.labels", given, "`selector` does not match template `labels`");
    }
}
