//! Every case of the corpus' policy truth tables, TCP and UDP, in one twin whose policies change.
//! (SCTP has no sockets here; its points are asked of the rules and rows in `reach`.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kilter_policy::naive::Side;
use kilter_testkit::truth_tables::{Point, Step, cases};
use kilter_verify::{Target, Trial};
use serde_json::{Value, json};

use crate::support::Twin;
use crate::support::session::Stage;
use crate::told;

/// Points of the tables that are not about SCTP.
const POINTS: usize = 82_527;

/// How long a step's new pods may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn packets_agree_with_every_case_of_the_truth_tables() {
    let Some(cases) = cases() else { return };
    let twin = Twin::named("truth");
    let directory = tempfile::tempdir().unwrap();
    let pods = directory.path().join("pods.json");
    std::fs::write(&pods, list(&cases[0].steps[0])).unwrap();
    twin.up(&[&pods]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let began = Instant::now();
    let (points, repeated) = runtime.block_on(async {
        let mut stage = Stage::new(&twin).await;
        let mut points = 0;
        for case in &cases {
            for (number, step) in case.steps.iter().enumerate() {
                let what = format!("case {} ({}), step {number}", case.number, case.description);
                assert_eq!(stage.set(objects(step)).await, Vec::<String>::new(), "{what}");
                let trials = trials(&stage, step, &what).await;
                points += trials.len();
                let wrong = stage.disagreements(trials).await;
                assert!(wrong.is_empty(), "{what}: {}", told(&wrong));
            }
        }
        (points, stage.repeated)
    });
    println!("{points} points in {:.1} s, {repeated} of them twice", began.elapsed().as_secs_f64());
    assert_eq!(points, POINTS);
    twin.prove();
}

fn list(step: &Step) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects(step)}).to_string()
}

/// The objects of a step, as the twin can have them: pods on three nodes, with addresses that these give.
fn objects(step: &Step) -> Vec<Value> {
    let mut objects = step.namespaces.clone();
    for (number, pod) in step.pods.iter().enumerate() {
        let mut pod = pod.clone();
        pod["metadata"].as_object_mut().unwrap().remove("uid");
        pod.as_object_mut().unwrap().remove("status");
        pod["spec"]["nodeName"] = format!("node-{}", 1 + number % 3).into();
        objects.push(pod);
    }
    objects.extend(step.policies.iter().map(in_the_twin));
    objects
}

/// The tables have two blocks that hold all pods, one within the other, and two that hold none or all
/// by themselves.
fn in_the_twin(policy: &Value) -> Value {
    let text = policy.to_string();
    let text = text.replace("\"192.168.1.0/24\"", "\"10.244.0.0/16\"");
    let text = text.replace("\"192.168.1.0/28\"", "\"10.244.0.0/20\"");
    assert!(!text.contains("192.168."), "a block that is not known: {text}");
    serde_json::from_str(&text).unwrap()
}

/// The trials that are a step's points; what the model says of each is what the table says.
async fn trials(stage: &Stage, step: &Step, what: &str) -> Vec<Trial> {
    let asked = step.points.iter().filter(|point| point.protocol != "SCTP");
    let points: BTreeMap<_, &Point> = asked
        .map(|it| ((it.from.clone(), it.to.clone(), it.protocol.clone(), it.port), it))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = stage.trials().await.into_iter();
        let trials: Vec<(Trial, &Point)> = all.filter_map(|it| points.get(&key(&it)?).map(|at| (it, *at))).collect();
        if trials.len() == points.len() {
            trials.iter().for_each(|(trial, point)| assert_model_is_table(trial, point, what));
            return trials.into_iter().map(|(trial, _)| trial).collect();
        }
        assert!(Instant::now() < deadline, "{what}: {} of {} points can be tried", trials.len(), points.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn key(trial: &Trial) -> Option<(String, String, String, u16)> {
    let Target::Pod(to) = &trial.target else { return None };
    Some((trial.from_name.to_string(), to.to_string(), trial.protocol.to_string(), trial.to.port()))
}

fn assert_model_is_table(trial: &Trial, point: &Point, what: &str) {
    let answer = &trial.expected[0].answer;
    let allowed = |side: &Side| side.verdict.is_allow();
    let model = (allowed(&answer.egress), allowed(&answer.ingress));
    // A pod may always reach itself, whatever the tables say.
    let table = if point.is_to_itself() { (true, true) } else { (point.egress, point.ingress) };
    assert_eq!(model, table, "{what}: {point:?}");
}
