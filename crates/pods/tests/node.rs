//! A whole node: pods come, are probed, fail, restart and go, seen through the API and by packets.

mod common;

use common::{condition, container, is_ready, on_a_node};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kilter_model::Protocol;
use kilter_wire::control::{Probe, ProbeResult};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn probe(from: &Pod, to: String, protocol: &str) -> Probe {
    Probe { from: from.uid().unwrap(), to: to.parse().unwrap(), protocol: protocol.into(), timeout_ms: 1000 }
}

fn ip(pod: &Pod) -> String {
    pod.status.as_ref().unwrap().pod_ip.clone().unwrap()
}

#[test]
fn a_pod_becomes_ready_serves_and_goes_without_a_trace() {
    on_a_node(|node| {
        Box::pin(async move {
            let ports = json!([{"name": "a", "port": 80, "targetPort": 7777}, {"name": "b", "port": 81, "protocol": "UDP"}]);
            let spec = json!({"selector": {"app": "web"}, "ports": ports});
            node.create::<Service>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
            // The probes' own delays are longer than anything is waited for here.
            node.create_pod(
                "web",
                json!({}),
                json!({
                    "initContainers": [{"name": "setup", "image": "i"}],
                    "containers": [
                        {"name": "http", "image": "nginx:1", "ports": [{"name": "http", "containerPort": 8080}],
                         "readinessProbe": {"httpGet": {"port": "http", "path": "/ready"}, "initialDelaySeconds": 60},
                         "livenessProbe": {"httpGet": {"port": 8443, "scheme": "HTTPS"}},
                         "startupProbe": {"exec": {"command": ["true"]}, "periodSeconds": 30}},
                        {"name": "rpc", "image": "rpc:2", "readinessProbe": {"grpc": {"port": 9090}},
                         "livenessProbe": {"tcpSocket": {"port": 9090}}},
                    ],
                }),
            )
            .await;
            let pod = node.until_ready("web").await;
            assert_eq!(condition(&pod, "Initialized").as_deref(), Some("True"));
            assert_eq!(condition(&pod, "PodReadyToStartContainers").as_deref(), Some("True"));
            let status = pod.status.as_ref().unwrap();
            assert_eq!(
                (status.phase.as_deref(), status.host_ip.as_deref(), status.qos_class.as_deref()),
                (Some("Running"), Some(common::NODE_IP), Some("BestEffort"))
            );
            assert_eq!(container(&pod, 0)["restartCount"], 0);
            let uid = pod.uid().unwrap();

            let expected = [
                (Protocol::Tcp, 7777),
                (Protocol::Tcp, 8080),
                (Protocol::Tcp, 8443),
                (Protocol::Tcp, 9090),
                (Protocol::Udp, 81),
            ];
            assert_eq!(node.pods().listening(&uid).await, expected);

            let asked = "GET /x?y=1 HTTP/1.1\r\nAccept: text/html, application/json;q=0.9";
            assert!(http(&ip(&pod), 8080, asked).await.contains("\"path\": \"/x?y=1\""));
            let plain = http(&ip(&pod), 8080, "GET /x?y=1 HTTP/1.1").await;
            assert!(plain.contains("\nweb in default on node-1 (") || plain.contains("\r\n\r\nweb in default on node-1 ("), "{plain}");
            assert!(plain.contains("\nGET /x?y=1\nconnection: close\nhost: test\n"), "{plain}");
            let logs = node.kubectl(&["logs", "web", "-c", "http", "--tail=1"]).await;
            assert!(
                logs.1.starts_with("GET /x?y=1 from 10.240.0.11:") && logs.1.ends_with("-> 200\n"),
                "{logs:?}"
            );
            let echoed = exchange(&ip(&pod), 9090, b"*1\r\n$4\r\nPING\r\n").await;
            assert_eq!(echoed, b"*1\r\n$4\r\nPING\r\n");
            assert_eq!(exchange(&ip(&pod), 9090, b"G").await, b"G", "half a method is no method");

            let described = node.kubectl(&["describe", "pod", "web"]).await.1;
            for expected in
                ["Pulled", "Created container: http", "Started container rpc", "Container ID:   kilter://"]
            {
                assert!(described.contains(expected), "{expected:?} is not in\n{described}");
            }
            node.delete_pod("web").await;
            assert_eq!(node.cni_calls(), ["ADD", "DEL"]);
            assert_eq!(node.pauses(), [0; 0]);
            assert!(node.pods().netns(&uid).is_none());
        })
    });
}

#[test]
fn many_pods_come_and_go_at_once() {
    on_a_node(|node| {
        Box::pin(async move {
            let spec = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}}}]});
            let names: Vec<String> = (0..30).map(|n| format!("web-{n}")).collect();
            let started = std::time::Instant::now();
            futures::future::join_all(
                names.iter().map(|name| node.create_pod(name, json!({}), spec.clone())),
            )
            .await;
            futures::future::join_all(names.iter().map(|name| node.until_ready(name))).await;
            println!("{} pods ready after {:?}", names.len(), started.elapsed());
            let started = std::time::Instant::now();
            futures::future::join_all(names.iter().map(|name| node.delete_pod(name))).await;
            println!("and gone after {:?}", started.elapsed());
            assert_eq!(node.pauses(), [0; 0]);
        })
    });
}

#[test]
fn the_node_is_registered_with_what_others_need_to_know() {
    on_a_node(|node| {
        Box::pin(async move {
            let api: Api<Node> = Api::all(node.client.clone());
            let ready = |found: Option<&Node>| {
                found.is_some_and(|node| node.status.as_ref().is_some_and(|s| s.addresses.is_some()))
            };
            let found = kube::runtime::wait::await_condition(api, "node-1", ready).await.unwrap().unwrap();
            assert_eq!(found.spec.as_ref().unwrap().pod_cidr.as_deref(), Some("10.244.1.0/24"));
            assert_eq!(found.labels().get("kubernetes.io/hostname").map(String::as_str), Some("node-1"));
            let listed = node.kubectl(&["get", "nodes", "-o", "wide"]).await.1;
            assert!(
                listed.contains("node-1") && listed.contains("Ready") && listed.contains(common::NODE_IP),
                "{listed}"
            );
            let api = format!("https://{}", node.pods().kubelet_api());
            let code = "curl -s -k -o /dev/null -w %{http_code}";
            assert_eq!(shell(&format!("{code} {api}/healthz")).await, "200");
            assert_eq!(shell(&format!("{code} {api}/pods")).await, "401");
            assert_eq!(shell(&format!("{code} -H 'Authorization: Bearer wrong' {api}/pods")).await, "401");
            let token = common::KUBELET_TOKEN;
            assert_eq!(shell(&format!("{code} -H 'Authorization: Bearer {token}' {api}/pods")).await, "200");
        })
    });
}

#[test]
fn a_node_says_what_it_is_once_and_again_when_somebody_says_otherwise() {
    on_a_node(|node| {
        Box::pin(async move {
            let nodes: Api<Node> = Api::all(node.client.clone());
            let is_ready = |node: Node| {
                let conditions = node.status.unwrap_or_default().conditions.unwrap_or_default();
                conditions.iter().any(|it| (&*it.type_, &*it.status) == ("Ready", "True"))
            };
            let ready = || async { nodes.get("node-1").await.is_ok_and(is_ready) };
            until(ready).await;
            let before = nodes.get("node-1").await.unwrap().resource_version();
            let again = || async { nodes.get("node-1").await.unwrap().resource_version() != before };
            let said_again = tokio::time::timeout(common::HEARTBEAT * 5, until(again)).await;
            assert!(said_again.is_err(), "all other nodes are told of each write");
            let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
            nodes.patch_status("node-1", &PatchParams::default(), &Patch::Merge(silent)).await.unwrap();
            until(ready).await;
            nodes.delete("node-1", &DeleteParams::default()).await.unwrap();
            until(ready).await;
        })
    });
}

/// Waits for it, for a while.
async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + common::DEADLINE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "it does not come");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn pods_are_dialled_from_inside_other_pods_all_at_once() {
    on_a_node(|node| {
        Box::pin(async move {
            let server = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]}]});
            node.create_pod("server", json!({}), server.clone()).await;
            node.create_pod("client", json!({}), json!({"containers": [{"name": "c"}]})).await;
            let (server, client) = (node.until_ready("server").await, node.until_ready("client").await);
            let probes = vec![
                probe(&client, format!("{}:80", ip(&server)), "TCP"),
                probe(&client, format!("{}:53", ip(&server)), "UDP"),
                probe(&client, format!("{}:81", ip(&server)), "TCP"),
                probe(&client, format!("{}:54", ip(&server)), "UDP"),
                probe(&server, format!("{}:80", ip(&server)), "TCP"),
                Probe { timeout_ms: 100, ..probe(&client, "198.51.100.1:9".into(), "UDP") },
                Probe { from: "nobody".into(), ..probe(&client, "10.0.0.1:1".into(), "TCP") },
            ];
            let outcomes = node.pods().probe(probes).await;
            let results: Vec<_> = outcomes.iter().map(|outcome| outcome.result.clone()).collect();
            let answered = ProbeResult::Answered { pod: server.uid() };
            assert_eq!(results[..2], [answered.clone(), answered.clone()]);
            assert_eq!(results[2..5], [ProbeResult::Refused, ProbeResult::Refused, answered.clone()]);
            assert!(matches!(results[6], ProbeResult::Failed(_)), "{:?}", results[6]);
            assert_eq!(outcomes[0].local.unwrap().ip().to_string(), ip(&client));

            let port = |n| if n % 2 == 0 { ("TCP", 80) } else { ("UDP", 53) };
            let to = |n| (port(n).0, format!("{}:{}", ip(&server), port(n).1));
            let probes = (0..500).map(to).map(|(protocol, to)| probe(&client, to, protocol)).collect();
            let outcomes = node.pods().probe(probes).await;
            let others: Vec<_> = outcomes.iter().filter(|outcome| outcome.result != answered).collect();
            assert!(others.is_empty(), "{} of 500, first {:?}", others.len(), others[0]);
        })
    });
}

#[test]
fn failing_on_purpose_is_noticed_and_heals() {
    on_a_node(|node| {
        Box::pin(async move {
            let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1});
            let containers = json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "readinessProbe": probe, "livenessProbe": probe}]);
            node.create_pod("web", json!({}), json!({"containers": containers})).await;
            node.until_ready("web").await;

            node.annotate("web", "kilter.dev/fail", Some("nonsense, readiness")).await;
            node.until_event(
                "web Warning UnknownAnnotation annotation kilter.dev/fail: nonsense means nothing",
            )
            .await;
            let unready = node.until("web", "readiness fails", |pod| !is_ready(pod)).await;
            assert_eq!(container(&unready, 0)["restartCount"], 0);
            node.until_event(
                "web Warning Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 503",
            )
            .await;
            node.annotate("web", "kilter.dev/fail", None).await;
            node.until_ready("web").await;

            node.annotate("web", "kilter.dev/fail", Some("liveness")).await;
            let restarted =
                node.until("web", "liveness restarts", |pod| container(pod, 0)["restartCount"] == 1).await;
            assert_eq!(container(&restarted, 0)["lastState"]["terminated"]["exitCode"], 143);
            node.until("web", "it backs off", |pod| {
                container(pod, 0)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            })
            .await;
            node.until_event("web Normal Killing Container c failed liveness probe, will be restarted").await;
            node.until_event(
                "web Warning BackOff Back-off restarting failed container c in pod web_default(",
            )
            .await;
            let previous = node.kubectl(&["logs", "web", "--previous"]).await;
            assert!(previous.1.contains("stopped, because its liveness probe failed"), "{previous:?}");
            node.annotate("web", "kilter.dev/fail", None).await;
            node.until("web", "it runs again", |pod| is_ready(pod) && container(pod, 0)["restartCount"] == 2)
                .await;
        })
    });
}

#[test]
fn stand_ins_are_slow_and_err_as_told_and_wrong_annotations_are_events() {
    on_a_node(|node| {
        Box::pin(async move {
            let annotations = json!({"kilter.dev/delay": "300ms", "kilter.dev/error-rate": "50%", "kilter.dev/bandwidth": "fast"});
            let spec = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]});
            node.create_pod("web", annotations, spec).await;
            let pod = node.until_ready("web").await;
            let started = std::time::Instant::now();
            let answers = [http(&ip(&pod), 80, "GET / HTTP/1.1").await, http(&ip(&pod), 80, "GET / HTTP/1.1").await];
            assert!(started.elapsed().as_millis() >= 600, "{:?}", started.elapsed());
            let failed = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 503")).count();
            assert_eq!(failed, 1, "{answers:?}");
            node.until_event(
                "web Warning UnknownAnnotation annotation kilter.dev/bandwidth: \"fast\" is not a rate in bits a second",
            )
            .await;
            node.annotate("web", "kilter.dev/delay", None).await;
            node.annotate("web", "kilter.dev/error-rate", None).await;
            // 2,000 bytes at 16,000 bits a second are a second's work, but for the first piece.
            node.annotate("web", "kilter.dev/bandwidth", Some("16k")).await;
            let started = std::time::Instant::now();
            while exchange(&ip(&pod), 80, &[7; 2000]).await.len() != 2000 || started.elapsed().as_millis() < 900 {
                assert!(started.elapsed() < common::DEADLINE, "the bandwidth is never limited");
            }
        })
    });
}

#[test]
fn the_sandbox_follows_the_pods_wishes_and_refuses_what_no_pod_may_have() {
    on_a_node(|node| {
        Box::pin(async move {
            let container = json!([{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080}]}]);
            let spec = json!({
                "hostname": "shop", "subdomain": "web", "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "1"}]},
                "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["db"]}],
                "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "7"}]},
                "containers": container,
            });
            node.create_pod("web", json!({}), spec).await;
            let pod = node.until_ready("web").await;
            let script = "cat /etc/resolv.conf; grep -v localhost /etc/hosts; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
            let (_, out, err) = node.kubectl(&["exec", "web", "--", "sh", "-c", script]).await;
            let expected = format!(
                "nameserver 192.0.2.53\noptions ndots:1\n{}\tshop.web.default.svc.cluster.local\tshop\n192.0.2.1\tdb\n7\n",
                ip(&pod)
            );
            assert_eq!(out, expected, "{err}");

            node.create_pod("rival", json!({}), json!({"containers": container})).await;
            node.until_event("rival Warning HostPortConflict port 8080/TCP of the node is claimed by container \"c\" of this pod and by container \"c\" of pod default/web").await;

            let unsafe_sysctls = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
            node.create_pod("greedy", json!({}), json!({"securityContext": unsafe_sysctls, "containers": [{"name": "c"}]})).await;
            let rejected = node
                .until("greedy", "it is rejected", |pod| {
                    pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("SysctlForbidden")
                })
                .await;
            let message = rejected.status.unwrap().message.unwrap();
            assert_eq!(message, "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted");
        })
    });
}

#[test]
fn a_port_claimed_twice_is_refused_with_both_containers_named() {
    on_a_node(|node| {
        Box::pin(async move {
            let ports = json!([{"containerPort": 80}]);
            let container_of = |name: &str| json!({"name": name, "image": "i", "ports": ports});
            // This API would not take such a pod; a real one does.
            let pods = kilter_apiserver::Resource::of_kind("v1", "Pod").unwrap();
            let value = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "clash", "namespace": "default", "uid": "u-clash"},
                "spec": {"nodeName": "node-1", "containers": [container_of("one"), container_of("two")]},
            });
            node.server.store.create(pods, value).unwrap();
            // Nor its status, so only the event can be looked at.
            node.until_event(
                "clash Warning Failed Error: port 80/TCP is declared by container \"one\" and by container \"two\"",
            )
            .await;
            assert!(!node.events().await.contains("Started container two"));
        })
    });
}

#[test]
fn a_plugin_that_refuses_is_asked_again_and_its_words_are_an_event() {
    on_a_node(|node| {
        Box::pin(async move {
            let cni = node.dir.path().join("cni");
            std::fs::write(cni.join("refusals"), "3").unwrap();
            node.create_pod("patient", json!({}), json!({"containers": [{"name": "c"}]})).await;
            node.until_ready("patient").await;
            assert_eq!(node.cni_calls(), ["ADD"; 4]);
            assert!(!node.events().await.contains("FailedCreatePodSandBox"), "asking again soon is no news");

            std::fs::write(cni.join("broken"), "").unwrap();
            node.create_pod("broken", json!({}), json!({"containers": [{"name": "c"}]})).await;
            node.until_event(
                "broken Warning FailedCreatePodSandBox Failed to create pod sandbox: \
                 plugin type=\"fake-cni\" failed (ADD): no address is left",
            )
            .await;
            std::fs::remove_file(cni.join("broken")).unwrap();
            node.until_ready("broken").await;
        })
    });
}

#[test]
fn a_restarted_node_goes_on_with_its_pods_and_clears_away_what_is_gone() {
    on_a_node(|node| {
        Box::pin(async move {
            let spec = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}], "readinessProbe": {"tcpSocket": {"port": 80}}}]});
            for name in ["stays", "goes", "dies"] {
                node.create_pod(name, json!({}), spec.clone()).await;
                node.until_ready(name).await;
            }
            let before = node.until_ready("stays").await;
            node.stop_pods().await;
            assert_eq!(node.pauses().len(), 3, "sandboxes outlive the node process");
            let goes = node.api::<Pod>().get("goes").await.unwrap();
            let preconditions = Some(kube::api::Preconditions { uid: goes.uid(), resource_version: None });
            let at_once = kube::api::DeleteParams {
                grace_period_seconds: Some(0),
                preconditions,
                ..Default::default()
            };
            node.api::<Pod>().delete("goes", &at_once).await.unwrap();

            node.start_pods().await;
            until_pauses(node, 2).await;
            let calls = node.cni_calls();
            assert_eq!(calls, ["ADD", "ADD", "ADD", "DEL"]);
            let after = node.until_ready("stays").await;
            assert_eq!(container(&after, 0)["containerID"], container(&before, 0)["containerID"]);
            assert_eq!(container(&after, 0)["restartCount"], 0);
            assert_eq!(ip(&after), ip(&before));
            assert_eq!(exchange(&ip(&after), 80, b"hello").await, b"hello");

            let dies = node.until_ready("dies").await;
            let pid = pause_of(node, &dies);
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
                .unwrap();
            let again = node
                .until("dies", "it is made anew", |pod| {
                    container(pod, 0)["restartCount"] == 1 && is_ready(pod)
                })
                .await;
            assert_ne!(ip(&again), ip(&dies));
            node.until_event("dies Normal SandboxChanged").await;
        })
    });
}

/// Waits until this many pause processes are left.
async fn until_pauses(node: &common::TestNode, pauses: usize) {
    let started = std::time::Instant::now();
    while node.pauses().len() != pauses {
        assert!(started.elapsed() < common::DEADLINE, "{:?} are left", node.pauses());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn pause_of(node: &common::TestNode, pod: &Pod) -> i32 {
    let netns = node.pods().netns(&pod.uid().unwrap()).unwrap();
    netns.to_str().unwrap().split('/').nth(2).unwrap().parse().unwrap()
}

#[test]
fn exec_runs_programs_of_this_machine_inside_the_pod() {
    on_a_node(|node| {
        Box::pin(async move {
            let spec = json!({"hostname": "shop-web", "containers": [
                {"name": "c", "env": [{"name": "COLOUR", "value": "green"}], "ports": [{"containerPort": 80}]}]});
            node.create_pod("web", json!({}), spec).await;
            let pod = node.until_ready("web").await;
            let (code, out, err) =
                node.kubectl(&["exec", "web", "--", "ip", "-o", "-4", "address", "show", "eth0"]).await;
            assert!(code == 0 && out.contains(&ip(&pod)), "{code} {out} {err}");
            let script = "cat /etc/resolv.conf; hostname; cat /etc/hostname; echo $COLOUR $KUBERNETES_SERVICE_HOST; exit 7";
            let (code, out, err) = node.kubectl(&["exec", "web", "--", "sh", "-c", script]).await;
            assert_eq!(code, 7, "{out} {err}");
            let expected = "nameserver 10.96.0.10\n\
                search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n\
                shop-web\nshop-web\ngreen 10.96.0.1\n";
            assert_eq!(out, expected);
            let (code, out, _) = node
                .kubectl(&["exec", "web", "--", "sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]*$'"])
                .await;
            let numbers: Vec<u32> = out.split_whitespace().map(|number| number.parse().unwrap()).collect();
            assert!(code == 0 && numbers[0] < 1000 && numbers[1] < 10, "its own PID namespace: {out}");
            let (code, _, err) = node.kubectl(&["exec", "web", "--", "no-such-program"]).await;
            assert!(code == 127 && err.contains("no-such-program"), "{code} {err}");
            let on_the_machine = std::fs::read_to_string("/etc/resolv.conf").unwrap();
            assert!(!on_the_machine.contains("default.svc.cluster.local"), "mounts stay inside");
            // What a program leaves running is gone with the pod.
            let (code, _, err) =
                node.kubectl(&["exec", "web", "--", "sh", "-c", "sleep 4567 >/dev/null 2>&1 &"]).await;
            assert_eq!(code, 0, "{err}");
            assert!(runs("sleep\u{0}4567"));
            node.delete_pod("web").await;
            assert!(!runs("sleep\u{0}4567"));
        })
    });
}

#[test]
fn exec_carries_input_and_a_terminal() {
    on_a_node(|node| {
        Box::pin(async move {
            node.create_pod("web", json!({}), json!({"containers": [{"name": "c"}]})).await;
            node.until_ready("web").await;
            let kubeconfig = node.kubeconfig.to_str().unwrap().to_owned();
            let pipe =
                format!("seq 1 20000 | kubectl --kubeconfig {kubeconfig} exec -i web -- cat | tail -1");
            assert_eq!(shell(&pipe).await, "20000\n");
            // `script` gives kubectl a terminal of its own.
            let inner = format!(
                "kubectl --kubeconfig {kubeconfig} exec -it web -- sh -c 'tty; until stty size | grep -v ^0; do :; done; exit 3'"
            );
            let out =
                shell(&format!("script -qec \"stty rows 33 cols 77; {inner}\" /dev/null; echo code $?"))
                    .await;
            assert!(out.contains("/dev/pts/") && out.contains("33 77") && out.contains("code 3"), "{out}");
        })
    });
}

async fn shell(line: &str) -> String {
    let output = tokio::process::Command::new("sh").args(["-c", line]).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(common::DEADLINE, output).await.expect("the line ends in time").unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn runs(command_line: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|process| std::fs::read(process.path().join("cmdline")).unwrap_or_default())
        .any(|line| String::from_utf8_lossy(&line).contains(command_line))
}

/// Sends bytes, says that there are no more, and reads what comes back.
async fn exchange(ip: &str, port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tokio::net::TcpStream::connect((ip, port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

async fn http(ip: &str, port: u16, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect((ip, port)).await.unwrap();
    stream
        .write_all(format!("{request}\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
