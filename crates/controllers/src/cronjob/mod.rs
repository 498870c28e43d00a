//! CronJobs: a Job whenever the schedule says so.

mod due;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use kilter_cluster::{Recorder, Severity};
use kilter_objects::Schedule;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::cache::{Key, key};
use crate::context::Context;
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::{Error, template, verbs};
use due::{Due, due};

/// On a Job: the time for which it was made.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub(crate) struct CronJobs {
    context: Context,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (CronJobs, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let wake = queue.clone();
    context.cron_jobs.on_each(move |cron| wake.add(key(&**cron)));
    let wake = queue.clone();
    context.jobs.on_each(move |job| {
        let owners = job.owner_references().iter();
        for owner in owners.filter(|o| o.controller == Some(true) && o.kind == "CronJob") {
            wake.add(Key::new(job.namespace().unwrap_or_default(), owner.name.as_str()));
        }
    });
    let recorder = Recorder::new(context.client.clone(), "cronjob-controller", None);
    (CronJobs { context: context.clone(), recorder }, queue)
}

impl Reconcile for CronJobs {
    const NAME: &'static str = "cronjob";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(cron) = self.context.cron_jobs.get(key) else { return Ok(None) };
        if cron.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let jobs = self.context.jobs.owned_by(&cron.uid().unwrap_or_default());
        let mut status = self.look(&cron, &jobs);
        let result = self.schedule(&cron, &jobs, &mut status).await;
        if cron.status.as_ref() != Some(&status) {
            let active = status.active.as_ref().map_or(Value::Null, |active| json!(active));
            let patch = json!({"active": active, "lastScheduleTime": status.last_schedule_time,
                "lastSuccessfulTime": status.last_successful_time});
            verbs::merge_status(&self.context.client, &*cron, patch).await?;
        }
        self.forget(&cron, &jobs).await?;
        result
    }
}

impl CronJobs {
    /// The status as its Jobs make it.
    fn look(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> CronJobStatus {
        let mut status = cron.status.clone().unwrap_or_default();
        let noted = status.active.take().unwrap_or_default();
        let active: Vec<ObjectReference> =
            jobs.iter().filter(|job| outcome(job).is_none()).map(|job| reference(job)).collect();
        for job in jobs.iter().filter(|job| noted.iter().any(|n| n.uid.as_ref() == job.metadata.uid.as_ref())) {
            if let Some(outcome) = outcome(job) {
                let message = format!("Saw completed job: {}, condition: {outcome}", job.name_any());
                self.recorder.record(cron, Severity::Normal, "SawCompletedJob", message);
            }
        }
        status.active = Some(active).filter(|active| !active.is_empty());
        let completed = jobs.iter().filter_map(|job| job.status.as_ref()?.completion_time.clone());
        if let Some(last) = completed.max_by_key(|t| t.0) {
            status.last_successful_time = Some(last);
        }
        status
    }

    /// Makes the Job that is due, if one is.
    async fn schedule(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<Option<Duration>, Error> {
        if cron.spec.suspend == Some(true) {
            return Ok(None);
        }
        let schedule = match Schedule::parse(&cron.spec.schedule, cron.spec.time_zone.as_deref()) {
            Ok(schedule) => schedule,
            Err(why) => {
                let message = format!("Unparseable schedule {:?}: {why}", cron.spec.schedule);
                self.recorder.record(cron, Severity::Warning, "UnparseableSchedule", message);
                return Ok(None);
            }
        };
        let now = Timestamp::now();
        let made = cron.creation_timestamp().map_or(now, |t| t.0);
        let since = status.last_schedule_time.as_ref().map_or(made, |t| t.0.max(made));
        let Due { at, again, missed } = due(&schedule, since, cron.spec.starting_deadline_seconds, now);
        if missed {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.recorder.record(cron, Severity::Warning, "TooManyMissedTimes", message.to_owned());
        }
        let Some(at) = at else { return Ok(again) };
        let active: Vec<&Arc<Job>> = jobs.iter().filter(|job| outcome(job).is_none()).collect();
        match cron.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.record(cron, Severity::Normal, "JobAlreadyActive", message.to_owned());
                // This time is not made up for when the Job has ended.
                status.last_schedule_time = Some(Time(at));
                return Ok(again);
            }
            Some("Replace") => {
                for job in active {
                    verbs::delete(&self.context.client, &**job, None).await?;
                    let message = format!("Deleted job {}", job.name_any());
                    self.recorder.record(cron, Severity::Normal, "SuccessfulDelete", message);
                    let gone = job.uid();
                    status.active.get_or_insert_default().retain(|a| a.uid != gone);
                }
            }
            _ => {}
        }
        match verbs::create(&self.context.client, &job_at(cron, at)?).await {
            Ok(job) => {
                let message = format!("Created job {}", job.name_any());
                self.recorder.record(cron, Severity::Normal, "SuccessfulCreate", message);
                status.active.get_or_insert_default().push(reference(&job));
            }
            // Made by an earlier look that did not get to note it.
            Err(error) if error.is_already_exists() => {}
            Err(error) => {
                let message = format!("Error creating job: {error}");
                self.recorder.record(cron, Severity::Warning, "FailedCreate", message);
                return Err(error.into());
            }
        }
        status.last_schedule_time = Some(Time(at));
        Ok(again)
    }

    /// Deletes the oldest Jobs that have ended, beyond what the limits keep.
    async fn forget(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let spec = &cron.spec;
        let limits = [
            ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
            ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (kind, limit) in limits {
            let mut ended: Vec<&Arc<Job>> = jobs.iter().filter(|job| outcome(job) == Some(kind)).collect();
            ended.sort_by_key(|job| (job.status.as_ref().and_then(|s| s.start_time.clone()).map(|t| t.0), job.name_any()));
            let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in &ended[..surplus] {
                verbs::delete(&self.context.client, &***job, None).await?;
                let message = format!("Deleted job {}", job.name_any());
                self.recorder.record(cron, Severity::Normal, "SuccessfulDelete", message);
            }
        }
        Ok(())
    }
}

/// `Complete` or `Failed`, once a Job has ended.
fn outcome(job: &Job) -> Option<&'static str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is = |kind: &str| conditions.iter().any(|c| c.type_ == kind && c.status == "True");
    ["Complete", "Failed"].into_iter().find(|kind| is(kind))
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        name: Some(job.name_any()),
        namespace: job.namespace(),
        resource_version: job.resource_version(),
        uid: job.uid(),
        field_path: None,
    }
}

/// The Job of a time. Its name says which, so that a time has one Job only.
fn job_at(cron: &CronJob, at: Timestamp) -> Result<Job, Error> {
    let template = &cron.spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let zone = cron.spec.time_zone.as_deref().unwrap_or("UTC");
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let scheduled = at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(SCHEDULED.into(), scheduled);
    let metadata = ObjectMeta {
        name: Some(format!("{}-{}", cron.name_any(), at.as_second() / 60)),
        namespace: cron.namespace(),
        labels: meta.labels,
        annotations: Some(annotations),
        owner_references: Some(vec![template::owner_of(cron)?]),
        ..ObjectMeta::default()
    };
    Ok(Job { metadata, spec: template.spec.clone(), status: None })
}
