//! Logs and exec, through the server to a kubelet, by the real kubectl.

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use common::Server;
use futures::SinkExt;
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use kilter_apiserver::pki::{self, Pki};
use kube::api::{Api, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

/// A kubelet with one pod: its log says what was asked, and exec echoes its command.
async fn kubelet(pki: &Pki) -> SocketAddr {
    let certified = pki::issue(&pki.ca_key, "node-1", ["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificates, key) = certified.parse().expect("readable");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let token = format!("Bearer {}", pki.node_token);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, token) = (acceptor.clone(), token.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = service_fn(move |request| {
                    let allowed = request.headers().get(AUTHORIZATION).is_some_and(|v| *v == *token);
                    async move { Ok::<_, Infallible>(answer(request, allowed)) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service);
                drop(connection.with_upgrades().await);
            });
        }
    });
    address
}

fn answer(mut request: Request<Incoming>, allowed: bool) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut response = Response::new(Full::default());
    if !allowed {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
    } else if path.starts_with("/containerLogs/shop/web/main") {
        *response.body_mut() = Full::from(format!("asked for {path}\n"));
    } else if path.starts_with("/exec/shop/web/main") {
        let key = request
            .headers()
            .get(SEC_WEBSOCKET_KEY)
            .map(|k| derive_accept_key(k.as_bytes()))
            .unwrap_or_default();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [
            (UPGRADE, "websocket"),
            (CONNECTION, "Upgrade"),
            (SEC_WEBSOCKET_ACCEPT, key.as_str()),
            (SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io"),
        ] {
            response.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(upgraded) = upgraded.await else { return };
            let mut socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            // Channel 1 is standard output, 3 the outcome.
            let status = json!({"metadata": {}, "status": "Success"});
            for (channel, text) in [(1, format!("{path}\n")), (3, status.to_string())] {
                let frame = [&[channel], text.as_bytes()].concat();
                drop(socket.send(Message::binary(frame)).await);
            }
            let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            drop(socket.close(Some(normal)).await);
        });
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Full::from("no such container here");
    }
    response
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of its kind")
}

async fn with_pod(server: &Server) {
    let address = kubelet(&server.pki).await;
    let client = server.client().await;
    let node: Node = object(json!({"metadata": {"name": "node-1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": address.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}}}));
    let post = PostParams::default();
    Api::all(client.clone()).create(&post, &node).await.expect("created");
    let shop: k8s_openapi::api::core::v1::Namespace = object(json!({"metadata": {"name": "shop"}}));
    Api::all(client.clone()).create(&post, &shop).await.expect("created");
    let pods = Api::<Pod>::namespaced(client, "shop");
    for (name, containers) in [
        ("web", json!([{"name": "main", "image": "a"}])),
        ("two", json!([{"name": "a", "image": "a"}, {"name": "b", "image": "b"}])),
    ] {
        let pod: Pod = object(json!({"metadata": {"name": name}, "spec": {"containers": containers}}));
        pods.create(&post, &pod).await.expect("created");
        let binding = json!({"target": {"kind": "Node", "name": "node-1"}});
        let _: Value = pods.create_subresource("binding", name, &post, &binding).await.expect("bound");
    }
    let pod: Pod = object(
        json!({"metadata": {"name": "homeless"}, "spec": {"containers": [{"name": "main", "image": "a"}]}}),
    );
    pods.create(&post, &pod).await.expect("created");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reads_logs_and_runs_programs() {
    let server = Server::start();
    with_pod(&server).await;
    let joined = tokio::task::spawn_blocking(move || {
        let log = server.run(&["-n", "shop", "logs", "web", "--tail=5", "--timestamps"]);
        assert_eq!(log, "asked for /containerLogs/shop/web/main?timestamps=true&tailLines=5\n");
        let out = server.run(&["-n", "shop", "exec", "web", "--", "echo", "a b", "$c"]);
        assert!(out.starts_with("/exec/shop/web/main?command=echo&command=a%20b&command=%24c&"), "{out}");
        assert!(out.contains("output=1") && out.contains("error=1") && !out.contains("input=1"), "{out}");

        let refused = server.fails(&["-n", "shop", "logs", "homeless"]);
        assert!(refused.contains("does not have a host assigned"), "{refused}");
        let refused = server.fails(&["-n", "shop", "logs", "two", "-c", "b"]);
        assert!(refused.contains("no such container here"), "{refused}");
        let refused = server.fails(&["-n", "shop", "exec", "two", "-c", "c", "--", "true"]);
        assert!(
            refused.contains("container c is not valid for pod two")
                || refused.contains("container not found"),
            "{refused}"
        );
        server
    });
    joined.await.expect("kubectl's part").handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_with_another_certificate_is_not_trusted() {
    let server = Server::start();
    let stranger = Server::start();
    let address = kubelet(&stranger.pki).await;
    let client = server.client().await;
    let node: Node = object(json!({"metadata": {"name": "node-1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": address.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}}}));
    let post = PostParams::default();
    Api::all(client.clone()).create(&post, &node).await.expect("created");
    let pods = Api::<Pod>::default_namespaced(client);
    let pod: Pod = object(
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "main", "image": "a"}]}}),
    );
    pods.create(&post, &pod).await.expect("created");
    let binding = json!({"target": {"kind": "Node", "name": "node-1"}});
    let _: Value = pods.create_subresource("binding", "web", &post, &binding).await.expect("bound");
    match pods.logs("web", &kube::api::LogParams::default()).await.expect_err("not trusted") {
        kube::Error::Api(status) => assert_eq!(status.code, 503, "{status:?}"),
        other => panic!("{other}"),
    }
}
