//! Port-forward, attach and followed logs, from the real kubectl (SPDY in a WebSocket, and SPDY
//! itself) and from kube-rs (channels), through the API server, into a pod's network namespace.

mod common;

use std::process::Stdio;

use common::{DEADLINE, TestNode, on_a_node};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A kubectl that runs until it is dropped.
fn kubectl(node: &TestNode, websockets: bool, arguments: &[&str]) -> Child {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(&node.kubeconfig).args(arguments).kill_on_drop(true);
    command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs")
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// The next line that a child prints.
async fn line(from: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut line = String::new();
    within("a line", from.read_line(&mut line)).await.expect("readable");
    line
}

async fn get(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.expect("text");
    answer
}

async fn web(node: &TestNode) {
    let ports = json!([{"containerPort": 8080}, {"containerPort": 9090}]);
    let spec = json!({"containers": [{"name": "main", "ports": ports, "readinessProbe": {"grpc": {"port": 9090}}}]});
    node.create_pod("web", json!({}), spec).await;
    node.until_ready("web").await;
}

/// Where a port-forward listens, from what kubectl prints: `Forwarding from 127.0.0.1:P -> 8080`.
async fn listens(out: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let said = line(out).await;
    let rest = said.strip_prefix("Forwarding from ").unwrap_or_else(|| panic!("{said}"));
    rest.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn kubectl_forwards_ports_over_websocket_and_over_spdy() {
    on_a_node(|node| {
        Box::pin(async move {
            web(node).await;
            for websockets in [true, false] {
                let arguments = ["port-forward", "--address=127.0.0.1", "pod/web", ":8080", ":9090", ":7"];
                let mut child = kubectl(node, websockets, &arguments);
                let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
                let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
                let mut places = vec![];
                for _ in 0..3 {
                    places.push(listens(&mut out).await);
                }
                // Many connections at once, each with its own answer.
                let each = (0..20).map(|i| {
                    let place = places[0].clone();
                    async move {
                        let mut stream = TcpStream::connect(place).await.expect("connected");
                        let answer = get(&mut stream, &format!("/{i}")).await;
                        assert!(answer.contains(&format!("GET /{i}\n")), "{answer}");
                    }
                });
                futures::future::join_all(each).await;
                // A connection that lasts carries much, both ways.
                let mut echo = TcpStream::connect(&places[1]).await.expect("connected");
                let (sent, mut came) = (vec![b'*'; 300_000], vec![0; 300_000]);
                let (mut reader, mut writer) = echo.split();
                let (wrote, read) = within("the echo", async {
                    tokio::join!(writer.write_all(&sent), reader.read_exact(&mut came))
                })
                .await;
                wrote.expect("written");
                read.expect("read");
                assert!(sent == came);
                // Nobody listens on the third: kubectl says so.
                let mut refused = TcpStream::connect(&places[2]).await.expect("kubectl listens");
                assert_eq!(within("the end", refused.read(&mut [0; 8])).await.unwrap_or(0), 0);
                let mut said = String::new();
                while !said.contains("inside the pod") {
                    let next = line(&mut errors).await;
                    assert!(!next.is_empty(), "kubectl ended: {said}");
                    said.push_str(&next);
                }
                child.kill().await.expect("killed");
            }
            let missing = node.kubectl(&["port-forward", "pod/none", ":80"]).await;
            assert!(missing.2.contains("pods \"none\" not found"), "{missing:?}");
        })
    });
}

#[test]
fn kube_rs_forwards_over_channels() {
    on_a_node(|node| {
        Box::pin(async move {
            web(node).await;
            let mut forward = within("an upgrade", node.api::<Pod>().portforward("web", &[8080, 7])).await.expect("forwarded");
            let refused = forward.take_error(7).expect("asked for");
            let mut stream = forward.take_stream(8080).expect("asked for");
            assert!(get(&mut stream, "/channel").await.contains("GET /channel\n"));
            let refused = within("an error", refused).await.expect("an error");
            assert!(refused.contains("failed to connect to localhost:7"), "{refused}");
        })
    });
}

#[test]
fn attach_and_followed_logs_show_what_is_printed() {
    on_a_node(|node| {
        Box::pin(async move {
            web(node).await;
            let mut attached = kubectl(node, true, &["attach", "web"]);
            let mut followed = kubectl(node, true, &["logs", "-f", "web"]);
            let mut outputs = [&mut attached, &mut followed]
                .map(|child| BufReader::new(child.stdout.take().expect("a pipe")));
            let pod = node.api::<Pod>().get("web").await.expect("there");
            let ip = pod.status.and_then(|s| s.pod_ip).expect("an address");
            // Until both have been seen to read: neither says when it has begun.
            for (i, output) in outputs.iter_mut().enumerate() {
                let seen = async {
                    loop {
                        let mut stream = TcpStream::connect(format!("{ip}:8080")).await.expect("connected");
                        get(&mut stream, &format!("/seen-{i}")).await;
                        let next = tokio::time::timeout(std::time::Duration::from_millis(200), line(output)).await;
                        if let Ok(text) = next
                            && text.contains(&format!("/seen-{i}"))
                        {
                            return;
                        }
                    }
                };
                within("a line of the log", seen).await;
            }
            node.delete_pod("web").await;
            // Both are told that the container has ended.
            assert!(within("attach ends", attached.wait()).await.expect("ended").success());
            assert!(within("logs end", followed.wait()).await.expect("ended").success());
        })
    });
}
