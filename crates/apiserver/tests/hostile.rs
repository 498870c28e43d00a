//! Clients that are hostile or broken: the right refusal, bounded memory, and others undisturbed.

mod common;

use std::time::Duration;

use common::{Server, within};
use futures::StreamExt;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(
    client: &kube::Client,
    request: http::request::Builder,
    body: impl Into<Vec<u8>>,
) -> (StatusCode, Value) {
    let request = request.body(Body::from(body.into())).expect("a request");
    let response = within("an answer", client.send(request)).await.expect("an answer");
    let status = response.status();
    let bytes = within("its body", response.into_body().collect()).await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn request(method: Method, path: &str, content_type: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content_type)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_request_gets_its_own_refusal() {
    let server = Server::start();
    let client = server.client().await;
    const JSON: &str = "application/json";
    let post = |kind: &'static str| request(Method::POST, MAPS, kind);
    let cases: [(http::request::Builder, &[u8], u16, &str); 15] = [
        (post(JSON), b"{", 400, "BadRequest"),
        (post(JSON), b"[]", 400, "BadRequest"),
        (post(JSON), b"\xff\xfe", 400, "BadRequest"),
        (post(JSON), br#"{"kind":"Pod","apiVersion":"v1"}"#, 400, "BadRequest"),
        (post(JSON), br#"{"metadata":{"name":"a/b"}}"#, 422, "Invalid"),
        (post(JSON), br#"{"metadata":{}}"#, 422, "Invalid"),
        (post("application/yaml"), b"a: [", 400, "BadRequest"),
        (post("application/yaml"), b"data: 1", 400, "BadRequest"),
        (post("application/xml"), b"<a/>", 415, "UnsupportedMediaType"),
        (post("text/plain"), b"x", 415, "UnsupportedMediaType"),
        (post("application/vnd.kubernetes.protobuf"), b"k8s\0\xff\xff", 400, "BadRequest"),
        (request(Method::PATCH, &format!("{MAPS}/x"), JSON), b"{}", 415, "UnsupportedMediaType"),
        (request(Method::PUT, MAPS, JSON), b"{}", 405, "MethodNotAllowed"),
        (request(Method::POST, "/api/v1/configmaps", JSON), b"{}", 405, "MethodNotAllowed"),
        (request(Method::GET, "/api/v1/gizmos", JSON), b"", 404, "NotFound"),
    ];
    for (request, body, code, reason) in cases {
        let what = format!("{request:?}");
        let (status, answer) = send(&client, request, body).await;
        assert_eq!((status.as_u16(), answer["reason"].as_str()), (code, Some(reason)), "{what}: {answer}");
        assert_eq!(
            (answer["kind"].as_str(), answer["code"].as_u64()),
            (Some("Status"), Some(code.into())),
            "{what}"
        );
    }
    let accept =
        Request::builder().uri(MAPS).header(http::header::ACCEPT, "application/vnd.kubernetes.protobuf");
    assert_eq!(send(&client, accept, []).await.0, 406);
    let deep = "[".repeat(1_000_000);
    assert_eq!(send(&client, post(JSON), deep).await.0, 400);
    for path in [
        "?limit=x",
        "?labelSelector=a%20b",
        "?fieldSelector=spec.x%3D1",
        "?continue=%00",
        "?resourceVersion=-1",
    ] {
        assert_eq!(send(&client, Request::builder().uri(format!("{MAPS}{path}")), []).await.0, 400, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_token() {
    let server = Server::start();
    let mut config =
        kube::Config::new(format!("https://{}", server.handle.addresses[1]).parse().expect("a URL"));
    config.root_cert = Some(
        kilter_apiserver::pki::certificates(&server.pki.ca_certificate)
            .expect("the CA")
            .iter()
            .map(|c| c.to_vec())
            .collect(),
    );
    let anonymous = kube::Client::try_from(config.clone()).expect("a client");
    for path in [MAPS, "/api", "/apis/apps/v1", "/openapi/v3", "/nothing"] {
        let (status, answer) = send(&anonymous, Request::builder().uri(path), []).await;
        assert_eq!((status.as_u16(), answer["reason"].as_str()), (401, Some("Unauthorized")), "{path}");
    }
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(send(&anonymous, Request::builder().uri(path), []).await.0, 200, "{path}");
    }
    config.auth_info.token = Some(server.pki.node_token.clone().into());
    let node = kube::Client::try_from(config).expect("a client");
    assert_eq!(send(&node, Request::builder().uri(MAPS), []).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let server = Server::start();
    let client = server.client().await;
    let body = json!({"metadata": {"name": "big"}, "data": {"k": "x".repeat(4 * 1024 * 1024)}}).to_string();
    let (status, answer) = send(&client, request(Method::POST, MAPS, "application/json"), body).await;
    assert_eq!((status.as_u16(), answer["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
    let maps = Api::<ConfigMap>::default_namespaced(client);
    assert!(maps.list(&ListParams::default()).await.expect("listed").items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_is_cut_off_and_disturbs_nobody() {
    const ROUNDS: usize = 400;
    let server = Server::with_history(32);
    let client = server.client().await;
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m"}})).expect("a map");
    maps.create(&PostParams::default(), &map).await.expect("created");
    let watch = Request::builder().uri(format!("{MAPS}?watch=true&timeoutSeconds=600")).body(Body::empty());
    let sleepy = server.client().await.send(watch.expect("a request")).await.expect("a watch");

    // Far more than the buffers between the two hold.
    for i in 0..ROUNDS {
        let data = format!("{i}{}", "x".repeat(100_000));
        let patch = Patch::Merge(json!({"data": {"k": data}}));
        within("a write", maps.patch("m", &PatchParams::default(), &patch)).await.expect("patched");
    }
    let mut stream = sleepy.into_body().into_data_stream();
    let (mut received, mut last) = (0, Vec::new());
    while let Some(piece) = within("the watch ends", stream.next()).await {
        let piece = piece.expect("readable");
        received += piece.len();
        last.extend_from_slice(&piece);
        let keep = last.len().saturating_sub(1024);
        last.drain(..keep);
    }
    let tail = String::from_utf8_lossy(&last).into_owned();
    let end = tail.lines().last().unwrap_or_default();
    assert!(end.contains(r#""type":"ERROR""#) && end.contains("410"), "{end}");
    assert!(received < ROUNDS * 100_000, "it cannot have seen everything: {received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_holds_up_nobody() {
    let server = Server::start();
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(server.handle.addresses[0]).await.expect("connected"));
    }
    let mut garbage = TcpStream::connect(server.handle.addresses[0]).await.expect("connected");
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    // Plain HTTP gets a TLS alert and the door.
    drop(within("the server hangs up", garbage.read_to_end(&mut answer)).await);
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    within("a list", maps.list(&ListParams::default())).await.expect("listed");
    tokio::time::timeout(Duration::from_secs(5), server.handle.shutdown())
        .await
        .expect("it stops with them connected");
}

/// A connection over TLS on which a test writes what it likes.
async fn raw(server: &Server) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in kilter_apiserver::pki::certificates(&server.pki.ca_certificate).expect("the CA") {
        roots.add(certificate).expect("a CA");
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("TLS").with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(server.handle.addresses[0]).await.expect("connected");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    within("a handshake", connector.connect(name, tcp)).await.expect("TLS")
}

/// The status line that comes back for what is written, whether or not all of it is taken.
async fn answer_to(server: &Server, pieces: impl IntoIterator<Item = Vec<u8>>) -> String {
    let (mut read, mut write) = tokio::io::split(raw(server).await);
    let pieces: Vec<Vec<u8>> = pieces.into_iter().collect();
    let writing = tokio::spawn(async move {
        for piece in pieces {
            if write.write_all(&piece).await.is_err() {
                break;
            }
        }
        write
    });
    let mut answer = vec![0; 64];
    let length = within("an answer", read.read(&mut answer)).await.unwrap_or(0);
    writing.abort();
    String::from_utf8_lossy(&answer[..length]).split("\r\n").next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_refused_before_they_are_kept() {
    let server = Server::start();
    let token = &server.pki.admin_token;
    let head = format!("POST {MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let many: String = (0..2000).map(|i| format!("X-{i}: y\r\n")).collect();
    let answer = answer_to(&server, [format!("{head}{many}\r\n").into_bytes()]).await;
    assert!(answer.contains(" 431 "), "many headers: {answer}");
    let large = format!("{head}X: {}\r\n\r\n", "y".repeat(1 << 20));
    let answer = answer_to(&server, [large.into_bytes()]).await;
    assert!(answer.contains(" 431 "), "a large header: {answer}");
    let long = format!("GET {MAPS}?labelSelector={} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    let answer = answer_to(&server, [long.into_bytes()]).await;
    assert!(answer.contains(" 431 ") || answer.contains(" 414 "), "a long URL: {answer}");
    // A body that does not say how long it is, and goes on.
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let body = std::iter::repeat_n(chunk, 12).chain([b"0\r\n\r\n".to_vec()]);
    let answer = answer_to(&server, [format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes()].into_iter().chain(body)).await;
    assert!(answer.contains(" 413 "), "a long body: {answer}");
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    within("a list", maps.list(&ListParams::default())).await.expect("others are undisturbed");
    server.handle.shutdown().await;
}

/// Kilobytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watches_all_hear_of_a_change_and_cost_little() {
    /// As many as the server takes on one connection, a few left for other requests.
    const EACH: usize = 240;
    const CLIENTS: usize = 5;
    let server = Server::start();
    let before = resident();
    let mut watches = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = server.client().await;
        for _ in 0..EACH {
            let request = Request::builder().uri(format!("{MAPS}?watch=true&resourceVersion=0&timeoutSeconds=600"));
            let answer = within("a watch", client.send(request.body(Body::empty()).expect("a request"))).await;
            watches.push(answer.expect("a watch").into_body().into_data_stream());
        }
        clients.push(client);
    }
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "news"}})).expect("a map");
    let maps = Api::<ConfigMap>::default_namespaced(clients[0].clone());
    within("a write", maps.create(&PostParams::default(), &map)).await.expect("created");
    for watch in &mut watches {
        let piece = within("the news", watch.next()).await.expect("an event").expect("readable");
        assert!(String::from_utf8_lossy(&piece).contains("news"), "{piece:?}");
    }
    let grown = resident().saturating_sub(before);
    // Both ends of each watch are in this process.
    assert!(grown < 150 * 1024, "{} watches take {grown} KiB", watches.len());
    drop(watches);
    within("a list", maps.list(&ListParams::default())).await.expect("listed");
    tokio::time::timeout(Duration::from_secs(10), server.handle.shutdown()).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_hold_up_nobody() {
    let server = Server::start();
    let mut slow = Vec::new();
    for i in 0..200 {
        let mut connection = raw(&server).await;
        connection.write_all(format!("GET {MAPS} HTTP/1.1\r\nX-{i}: ").as_bytes()).await.expect("written");
        slow.push(connection);
    }
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    for _ in 0..20 {
        within("a list", maps.list(&ListParams::default())).await.expect("listed");
    }
    for connection in &mut slow {
        connection.write_all(b"a").await.expect("written");
    }
    within("a list", maps.list(&ListParams::default())).await.expect("listed");
    tokio::time::timeout(Duration::from_secs(10), server.handle.shutdown()).await.expect("it stops with them connected");
}
