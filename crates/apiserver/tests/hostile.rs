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
