use serde_json::Value;

use super::text::{
    NONE, age, count, duration, items, joined, labels, moment, name, or_none, selector, since,
};
use super::{Printer, column, number, wide};

pub static DEPLOYMENTS: Printer = Printer {
    columns: &[
        column("Name"),
        column("Ready"),
        number("Up-to-date"),
        number("Available"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |v, now| {
        let status = &v["status"];
        let first = [
            name(v),
            format!("{}/{}", count(&status["readyReplicas"]), count(&v["spec"]["replicas"])).into(),
            count(&status["updatedReplicas"]).into(),
            count(&status["availableReplicas"]).into(),
            age(v, now),
        ];
        first.into_iter().chain(template(v)).chain([selector(&v["spec"]["selector"]).into()]).collect()
    },
};

pub static REPLICA_SETS: Printer = Printer {
    columns: &[
        column("Name"),
        number("Desired"),
        number("Current"),
        number("Ready"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |v, now| {
        let first = [
            name(v),
            count(&v["spec"]["replicas"]).into(),
            count(&v["status"]["replicas"]).into(),
            count(&v["status"]["readyReplicas"]).into(),
            age(v, now),
        ];
        // A ReplicationController's selector is a plain map of labels.
        let of = &v["spec"]["selector"];
        let selector = if v["kind"] == "ReplicaSet" { selector(of) } else { labels(of) };
        first.into_iter().chain(template(v)).chain([selector.into()]).collect()
    },
};

pub static STATEFUL_SETS: Printer = Printer {
    columns: &[column("Name"), column("Ready"), column("Age"), wide("Containers"), wide("Images")],
    cells: |v, now| {
        let ready = format!("{}/{}", count(&v["status"]["readyReplicas"]), count(&v["spec"]["replicas"]));
        [name(v), ready.into(), age(v, now)].into_iter().chain(template(v)).collect()
    },
};

pub static DAEMON_SETS: Printer = Printer {
    columns: &[
        column("Name"),
        number("Desired"),
        number("Current"),
        number("Ready"),
        number("Up-to-date"),
        number("Available"),
        column("Node Selector"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |v, now| {
        let status = &v["status"];
        let first = [
            name(v),
            count(&status["desiredNumberScheduled"]).into(),
            count(&status["currentNumberScheduled"]).into(),
            count(&status["numberReady"]).into(),
            count(&status["updatedNumberScheduled"]).into(),
            count(&status["numberAvailable"]).into(),
            labels(&v["spec"]["template"]["spec"]["nodeSelector"]).into(),
            age(v, now),
        ];
        first.into_iter().chain(template(v)).chain([selector(&v["spec"]["selector"]).into()]).collect()
    },
};

pub static CONTROLLER_REVISIONS: Printer = Printer {
    columns: &[column("Name"), column("Controller"), number("Revision"), column("Age")],
    cells: |v, now| {
        let controller = items(&v["metadata"]["ownerReferences"]).find(|o| o["controller"] == true);
        let controller = controller.map_or(NONE.into(), |o| {
            let (kind, name) =
                (o["kind"].as_str().unwrap_or_default(), o["name"].as_str().unwrap_or_default());
            let group =
                o["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{name}", kind.to_lowercase())
        });
        vec![name(v), controller.into(), count(&v["revision"]).into(), age(v, now)]
    },
};

pub static JOBS: Printer = Printer {
    columns: &[
        column("Name"),
        column("Status"),
        column("Completions"),
        column("Duration"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |v, now| {
        let status = &v["status"];
        let has =
            |kind: &str| items(&status["conditions"]).any(|c| c["type"] == kind && c["status"] == "True");
        let state = match () {
            () if has("Complete") => "Complete",
            () if has("Failed") => "Failed",
            () if v["metadata"]["deletionTimestamp"].is_string() => "Terminating",
            () if has("Suspended") => "Suspended",
            () if has("FailureTarget") => "FailureTarget",
            () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
            () => "Running",
        };
        let wanted = v["spec"]["completions"].as_i64().or(v["spec"]["parallelism"].as_i64()).unwrap_or(1);
        let took = match (moment(&status["startTime"]), moment(&status["completionTime"])) {
            (None, _) => Value::from(""),
            (Some(_), None) => since(&status["startTime"], now),
            (Some(start), Some(end)) => duration(end.as_second() - start.as_second()).into(),
        };
        let done = format!("{}/{wanted}", count(&status["succeeded"]));
        let first = [name(v), state.into(), done.into(), took, age(v, now)];
        first.into_iter().chain(template(v)).chain([selector(&v["spec"]["selector"]).into()]).collect()
    },
};

pub static CRON_JOBS: Printer = Printer {
    columns: &[
        column("Name"),
        column("Schedule"),
        column("Timezone"),
        column("Suspend"),
        number("Active"),
        column("Last Schedule"),
        column("Age"),
    ],
    cells: |v, now| {
        let last = &v["status"]["lastScheduleTime"];
        let suspend = if v["spec"]["suspend"] == true { "True" } else { "False" };
        vec![
            name(v),
            v["spec"]["schedule"].clone(),
            or_none(&v["spec"]["timeZone"]),
            suspend.into(),
            items(&v["status"]["active"]).count().into(),
            if last.is_null() { NONE.into() } else { since(last, now) },
            age(v, now),
        ]
    },
};

/// Names and images of the containers in the pod template.
fn template(value: &Value) -> [Value; 2] {
    let containers = &value["spec"]["template"]["spec"]["containers"];
    let text = |key: &str| joined(items(containers).map(|c| c[key].as_str().unwrap_or_default().to_owned()));
    [text("name").into(), text("image").into()]
}
