//! Containers whose commands run on this machine for real, and how containers start and end: hooks,
//! signals, sidecars, restarts. Needs root.

mod common;

use common::{TestNode, container, is_ready, on_a_node};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use serde_json::{Value, json};

fn real() -> Value {
    json!({"kilter.dev/run": "process"})
}

fn shell(script: &str) -> Value {
    json!(["sh", "-c", script])
}

/// A program that waits until it is told to end, then runs this.
fn until_told(then: &str) -> Value {
    shell(&format!("trap '{then}' TERM; touch /up; while :; do sleep 0.02; done"))
}

#[test]
fn a_command_runs_in_the_pod_with_its_environment_files_and_exit_code() {
    on_a_node(|node| {
        Box::pin(async move {
            node.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"colour": "green"}})).await;
            node.create::<Secret>(json!({"metadata": {"name": "keys"}, "data": {"KEY": "aGlkZGVu"}})).await;
            let script = "echo $COLOUR $KEY $MY_NAME in $(pwd) as $(id -u) on $(hostname); \
                cat /etc/settings/colour /secrets/it; echo; touch /etc/written-by-a-test; \
                trap 'echo bye; exit 3' TERM; touch /data/ready; while :; do sleep 0.02; done";
            let spec = json!({
                "volumes": [
                    {"name": "data", "emptyDir": {}},
                    {"name": "settings", "configMap": {"name": "settings"}},
                    {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "KEY", "path": "it"}]}},
                ],
                "containers": [{
                    "name": "c", "command": ["sh", "-c"], "args": [script], "workingDir": "/made/for/it",
                    "env": [
                        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
                        {"name": "MY_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    ],
                    "envFrom": [{"secretRef": {"name": "keys"}}],
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/data"}, {"name": "settings", "mountPath": "/etc/settings"},
                        {"name": "keys", "mountPath": "/secrets"},
                    ],
                    "readinessProbe": {"exec": {"command": ["test", "-f", "/data/ready"]}, "periodSeconds": 1},
                }],
            });
            node.create_pod("tool", real(), spec).await;
            let pod = node.until_ready("tool").await;
            let (_, logs, _) = node.kubectl(&["logs", "tool"]).await;
            assert_eq!(logs, "green hidden tool in /made/for/it as 0 on tool\ngreenhidden\n");
            assert!(!std::path::Path::new("/etc/written-by-a-test").exists(), "its files are its own");
            assert!(!std::path::Path::new("/made/for/it").exists());

            let inside = "cat /proc/1/cmdline | tr '\\0' ' ' | cut -c1-5; cat /proc/self/cgroup; ls /etc/written-by-a-test";
            let (code, out, err) = node.kubectl(&["exec", "tool", "--", "sh", "-c", inside]).await;
            let own_cgroup = format!("/pods/{}/c\n", pod.uid().unwrap());
            assert!(
                code == 0 && out.starts_with("sh -c\n") && out.contains(&own_cgroup) && out.contains("/etc/written"),
                "{out} {err}"
            );
            node.kubectl(&["exec", "tool", "--", "kill", "1"]).await;
            let again = node.until("tool", "it runs again", |pod| is_ready(pod) && container(pod, 0)["restartCount"] == 1).await;
            let last = &container(&again, 0)["lastState"]["terminated"];
            assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")));
            let (_, previous, _) = node.kubectl(&["logs", "tool", "--previous"]).await;
            assert!(previous.ends_with("bye\n"), "{previous}");
        })
    });
}

#[test]
fn what_cannot_be_started_says_why() {
    on_a_node(|node| {
        Box::pin(async move {
            let waiting = |reason: &'static str| {
                move |pod: &Pod| container(pod, 0)["state"]["waiting"]["reason"] == reason
            };
            node.create_pod("typo", real(), json!({"containers": [{"name": "c", "command": ["no-such-program"]}]})).await;
            let pod = node.until("typo", "it is told", waiting("RunContainerError")).await;
            let message = container(&pod, 0)["state"]["waiting"]["message"].to_string();
            assert!(message.contains("no-such-program") && message.contains("not found in $PATH"), "{message}");
            node.until_event("typo Warning Failed Error: exec: \"no-such-program\": executable file not found").await;

            node.create_pod("image", real(), json!({"containers": [{"name": "c"}]})).await;
            node.until("image", "it is told", waiting("CreateContainerError")).await;
            node.until_event("image Warning Failed Error: container \"c\" has no command").await;

            let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "x"}}}]);
            let command = shell("test $X = y && exec sleep 1000");
            node.create_pod("early", real(), json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "command": command, "env": env}]})).await;
            node.until("early", "it waits", waiting("CreateContainerConfigError")).await;
            node.until_event("early Warning Failed Error: configmap \"later\" not found").await;
            node.create::<ConfigMap>(json!({"metadata": {"name": "later"}, "data": {"x": "y"}})).await;
            let pod = node.until_ready("early").await;
            assert_eq!(container(&pod, 0)["restartCount"], 0, "waiting is no restart");

            let misspelt = json!({"kilter.dev/run.c": "proces", "kilter.dev/run.d": "process"});
            node.create_pod("misspelt", misspelt, json!({"containers": [{"name": "c"}]})).await;
            node.until_event("misspelt Warning Failed Error: annotation kilter.dev/run.c: \"proces\" means nothing").await;
            node.until_event("misspelt Warning UnknownAnnotation annotation kilter.dev/run.d: this pod has no container \"d\"").await;
        })
    });
}

#[test]
fn a_program_that_does_not_listen_to_sigterm_is_killed_after_its_grace() {
    on_a_node(|node| {
        Box::pin(async move {
            let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "deaf", "command": shell("trap '' TERM; sleep 4568 & while :; do sleep 0.02; done")}]});
            node.create_pod("deaf", real(), spec).await;
            node.until_ready("deaf").await;
            node.delete_pod("deaf").await;
            let (_, processes, _) = run("ps -eo args").await;
            assert!(!processes.contains("sleep 4568"), "{processes}");
        })
    });
}

#[test]
fn sidecars_start_first_one_after_the_other_and_end_last() {
    on_a_node(|node| {
        Box::pin(async move {
            let log = node.dir.path().join("order");
            std::fs::create_dir(&log).unwrap();
            let said = |node: &TestNode| std::fs::read_to_string(node.dir.path().join("order/log")).unwrap_or_default();
            let mounts = json!([{"name": "log", "mountPath": "/log"}]);
            let part = |name: &str, then: &str| {
                json!({"name": name, "image": "i", "volumeMounts": mounts,
                    "command": shell(&format!("echo {name} >> /log/log; trap 'echo {name} ends >> /log/log; exit 0' TERM; touch /up; {then}"))})
            };
            let sidecar = |name: &str| {
                let mut it = part(name, "while :; do sleep 0.02; done");
                it["restartPolicy"] = json!("Always");
                it["startupProbe"] = json!({"exec": {"command": ["test", "-f", "/up"]}, "periodSeconds": 1});
                it
            };
            let spec = json!({
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 20,
                "volumes": [{"name": "log", "hostPath": {"path": log, "type": "Directory"}}],
                "initContainers": [part("setup", ""), sidecar("first"), sidecar("second")],
                "containers": [part("main", "while [ ! -e /log/over ]; do sleep 0.02; done")],
            });
            node.create_pod("stack", real(), spec.clone()).await;
            node.until_ready("stack").await;
            node.until_holds("main has begun", || said(node) == "setup\nfirst\nsecond\nmain\n").await;
            node.delete_pod("stack").await;
            assert_eq!(said(node), "setup\nfirst\nsecond\nmain\nmain ends\nsecond ends\nfirst ends\n");

            std::fs::remove_file(log.join("log")).unwrap();
            std::fs::write(log.join("over"), "").unwrap();
            node.create_pod("task", real(), spec).await;
            let over = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Succeeded");
            node.until("task", "its sidecars do not keep it", over).await;
            assert_eq!(said(node), "setup\nfirst\nsecond\nmain\nsecond ends\nfirst ends\n");
        })
    });
}

#[test]
fn restart_policies_and_per_container_rules_are_followed() {
    on_a_node(|node| {
        Box::pin(async move {
            let phase = |wanted: &'static str| {
                move |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(wanted)
            };
            let pod = |policy: &str, command: Value| json!({"restartPolicy": policy, "containers": [{"name": "c", "command": command}]});
            node.create_pod("fails", real(), pod("Never", shell("exit 4"))).await;
            let failed = node.until("fails", "it has failed", phase("Failed")).await;
            assert_eq!(container(&failed, 0)["state"]["terminated"]["exitCode"], 4);

            let once = "test -e /log/tried && exit 0; touch /log/tried; exit 1";
            let mut spec = pod("OnFailure", shell(once));
            spec["volumes"] = json!([{"name": "log", "emptyDir": {}}]);
            spec["containers"][0]["volumeMounts"] = json!([{"name": "log", "mountPath": "/log"}]);
            node.create_pod("retries", real(), spec).await;
            let done = node.until("retries", "its second try succeeds", phase("Succeeded")).await;
            assert_eq!(container(&done, 0)["restartCount"], 1);

            let mut spec = pod("Never", shell("exit 1"));
            spec["initContainers"] = json!([{"name": "setup", "image": "i", "command": shell("exit 9")}]);
            node.create_pod("never-set-up", real(), spec).await;
            let failed = node.until("never-set-up", "its init container has failed", phase("Failed")).await;
            let status = failed.status.unwrap();
            let init = &status.init_container_statuses.unwrap()[0];
            assert_eq!(init.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 9);
            assert_eq!(container(&node.api::<Pod>().get("never-set-up").await.unwrap(), 0)["state"]["waiting"]["reason"], "PodInitializing");
        })
    });
}

#[test]
fn hooks_run_for_stand_ins_and_programs_and_their_failure_is_told() {
    on_a_node(|node| {
        Box::pin(async move {
            let hook = |path: &str, port: u16| json!({"httpGet": {"path": path, "port": port}});
            let web = |post: Value| {
                json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                    "lifecycle": {"postStart": post, "preStop": {"sleep": {"seconds": 1}}}}]})
            };
            node.create_pod("greeted", json!({}), web(hook("/hello", 80))).await;
            node.until_ready("greeted").await;
            let (_, logs, _) = node.kubectl(&["logs", "greeted"]).await;
            assert!(logs.contains("GET /hello from"), "{logs}");

            node.create_pod("snubbed", json!({}), web(hook("/hello", 81))).await;
            node.until_event("snubbed Warning FailedPostStartHook PostStartHook failed: Get \"http://").await;
            node.until("snubbed", "it is started again", |pod| {
                container(pod, 0)["lastState"]["terminated"]["message"].to_string().contains("PostStartHook failed")
            })
            .await;

            let marks = node.dir.path().join("marks");
            std::fs::create_dir(&marks).unwrap();
            let exec = |script: &str| json!({"exec": {"command": shell(script)}});
            let spec = json!({
                "volumes": [{"name": "marks", "hostPath": {"path": marks}}],
                "containers": [{"name": "c", "command": until_told("exit 0"),
                    "volumeMounts": [{"name": "marks", "mountPath": "/marks"}],
                    "lifecycle": {"postStart": exec("echo started > /marks/post"), "preStop": exec("echo stopping > /marks/pre; exit 5")}}],
            });
            node.create_pod("program", real(), spec).await;
            node.until_ready("program").await;
            assert_eq!(std::fs::read_to_string(marks.join("post")).unwrap(), "started\n");
            assert!(!marks.join("pre").exists());
            node.delete_pod("program").await;
            assert_eq!(std::fs::read_to_string(marks.join("pre")).unwrap(), "stopping\n");
            node.until_event("program Warning FailedPreStopHook PreStopHook failed: command").await;
        })
    });
}

#[test]
fn a_failing_exec_probe_of_a_program_restarts_it_within_the_probes_own_grace() {
    on_a_node(|node| {
        Box::pin(async move {
            let spec = json!({"terminationGracePeriodSeconds": 600, "containers": [{
                "name": "c", "command": shell("trap '' TERM; touch /well; while :; do sleep 0.02; done"),
                "livenessProbe": {"exec": {"command": ["sh", "-c", "test -e /well || { echo unwell; exit 1; }"]},
                    "periodSeconds": 1, "failureThreshold": 1, "terminationGracePeriodSeconds": 1},
            }]});
            node.create_pod("web", real(), spec).await;
            node.until_ready("web").await;
            node.kubectl(&["exec", "web", "--", "rm", "/well"]).await;
            node.until_event("web Warning Unhealthy Liveness probe failed: unwell").await;
            let pod = node.until("web", "it is restarted", |pod| container(pod, 0)["restartCount"] == 1).await;
            assert_eq!(container(&pod, 0)["lastState"]["terminated"]["exitCode"], 137);
            // Whoever deletes it may give it less time, too.
            let params = kube::api::DeleteParams { grace_period_seconds: Some(1), ..Default::default() };
            node.api::<Pod>().delete("web", &params).await.unwrap();
        })
    });
}

#[test]
fn a_restarted_node_starts_its_programs_anew() {
    on_a_node(|node| {
        Box::pin(async move {
            node.create_pod("tool", real(), json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "command": shell("sleep 4569")}]})).await;
            node.until_ready("tool").await;
            node.stop_pods().await;
            node.start_pods().await;
            node.until("tool", "it runs again", |pod| container(pod, 0)["restartCount"] == 1 && is_ready(pod)).await;
            let (_, processes, _) = run("ps -eo args | grep -c '^sleep 4569'").await;
            assert_eq!(processes.trim(), "1");
        })
    });
}

async fn run(line: &str) -> (i32, String, String) {
    let output = tokio::process::Command::new("sh").args(["-c", line]).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
