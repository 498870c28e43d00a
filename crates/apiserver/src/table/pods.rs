use jiff::Timestamp;
use serde_json::Value;

use super::text::{NONE, age, count, items, moment, name, or_none, since};
use super::{Printer, column, wide};

pub static PODS: Printer = Printer {
    columns: &[
        column("Name"),
        column("Ready"),
        column("Status"),
        column("Restarts"),
        column("Age"),
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells,
};

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarise(pod);
    let status = &pod["status"];
    let restarts = match summary.last_restart {
        Some(when) if summary.restarts > 0 => {
            let ago = since(&when.to_string().into(), now);
            format!("{} ({} ago)", summary.restarts, ago.as_str().unwrap_or_default())
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(&status["podIP"]),
        or_none(&pod["spec"]["nodeName"]),
        or_none(&status["nominatedNodeName"]),
        gates(pod),
    ]
}

fn gates(pod: &Value) -> Value {
    let gates: Vec<&Value> = items(&pod["spec"]["readinessGates"]).collect();
    if gates.is_empty() {
        return NONE.into();
    }
    let open = gates.iter().filter(|g| g["conditionType"].as_str().is_some_and(|t| condition(pod, t)));
    format!("{}/{}", open.count(), gates.len()).into()
}

fn condition(pod: &Value, kind: &str) -> bool {
    items(&pod["status"]["conditions"]).any(|c| c["type"] == kind && c["status"] == "True")
}

struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

impl Summary {
    fn restarted(&mut self, container: &Value) {
        self.restarts += count(&container["restartCount"]);
        self.last_restart =
            self.last_restart.max(moment(&container["lastState"]["terminated"]["finishedAt"]));
    }
}

/// What people call the state of a pod: the phase, or the most telling reason below it.
fn summarise(pod: &Value) -> Summary {
    let status = &pod["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    let reason = status["reason"].as_str().filter(|r| !r.is_empty()).unwrap_or(phase);
    let sidecars = items(&pod["spec"]["initContainers"]).filter(|c| is_sidecar(c)).count();
    let mut summary = Summary {
        ready: 0,
        total: items(&pod["spec"]["containers"]).count() + sidecars,
        restarts: 0,
        last_restart: None,
        reason: reason.to_owned(),
    };
    if items(&status["conditions"]).any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated") {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initialising = init_containers(pod, &mut summary);
    if !initialising || condition(pod, "Initialized") {
        containers(pod, &mut summary);
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        if status["reason"] == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// Whether an init container is still at work; counts its restarts and ready sidecars.
fn init_containers(pod: &Value, summary: &mut Summary) -> bool {
    let specs: Vec<&Value> = items(&pod["spec"]["initContainers"]).collect();
    for (i, container) in items(&pod["status"]["initContainerStatuses"]).enumerate() {
        summary.restarted(container);
        let state = &container["state"];
        let sidecar = specs.iter().any(|s| s["name"] == container["name"] && is_sidecar(s));
        if state["terminated"].is_object() && count(&state["terminated"]["exitCode"]) == 0 {
            continue;
        }
        if sidecar && container["started"] == true {
            summary.ready += usize::from(container["ready"] == true);
            continue;
        }
        let waiting =
            state["waiting"]["reason"].as_str().filter(|r| !r.is_empty() && *r != "PodInitializing");
        summary.reason = match (state["terminated"].is_object(), waiting) {
            (true, _) => format!("Init:{}", ended(&state["terminated"])),
            (false, Some(reason)) => format!("Init:{reason}"),
            (false, None) => format!("Init:{i}/{}", specs.len()),
        };
        return true;
    }
    false
}

fn containers(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    for container in items(&pod["status"]["containerStatuses"]).rev() {
        summary.restarted(container);
        let state = &container["state"];
        let waiting = state["waiting"]["reason"].as_str().filter(|r| !r.is_empty());
        if let Some(reason) = waiting {
            summary.reason = reason.to_owned();
        } else if state["terminated"].is_object() {
            summary.reason = ended(&state["terminated"]);
        } else if container["ready"] == true && state["running"].is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
    }
}

fn ended(terminated: &Value) -> String {
    match (terminated["reason"].as_str().unwrap_or_default(), count(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", count(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
