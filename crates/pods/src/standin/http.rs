use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::failures::PROBE_HEADER;
use super::grpc::{self, Body};
use super::reflection;
use super::server::Serving;
use super::tcp::Ends;

/// Longer request bodies are not read to the end.
const BODY_BYTES: usize = 16 << 20;

/// What a stand-in says about itself and about what it was asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    pod: &'a str,
    namespace: &'a str,
    node: &'a str,
    container: &'a str,
    address: String,
    client: String,
    method: &'a str,
    path: &'a str,
    headers: BTreeMap<&'a str, String>,
    body_bytes: usize,
}

/// Serves HTTP/1.x, HTTP/2 and gRPC health checks on one connection.
pub(super) async fn serve<S>(stream: S, ends: Ends, serving: Arc<Serving>) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let serving = serving.clone();
        async move { Ok::<_, std::convert::Infallible>(respond(request, ends, &serving).await) }
    });
    let connection = auto::Builder::new(TokioExecutor::new());
    let served = connection.serve_connection(TokioIo::new(stream), service).await;
    served.map_err(std::io::Error::other)
}

async fn respond(request: Request<Incoming>, ends: Ends, serving: &Serving) -> Response<Body> {
    let failures = serving.behaviour().failures;
    let probe = request.headers().get(PROBE_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let fails = probe.as_deref().is_some_and(|probe| failures.probe(probe));
    let is_call = grpc::is_call(&request);
    let (parts, body) = request.into_parts();
    if is_call && reflection::is_reflection(parts.uri.path()) {
        return reflected(body);
    }
    // Read even where it does not matter: a server that answers without having listened makes some
    // clients lose the answer.
    let body_bytes = drain(body).await;
    let well = serving.think().await;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if is_call {
        if probe.is_none() {
            serving.log.print(&format!("gRPC {path} from {}", ends.client));
        }
        if grpc::is_watch(parts.uri.path()) {
            return grpc::watch(serving.behaviour.clone());
        }
        return grpc::answer(parts.uri.path(), well && !(failures.grpc || fails));
    }
    let status = match body_bytes {
        _ if !well || failures.http || fails => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) => StatusCode::OK,
        None => StatusCode::PAYLOAD_TOO_LARGE,
    };
    if probe.is_none() {
        serving.log.print(&format!("{} {path} from {} -> {}", parts.method, ends.client, status.as_u16()));
    }
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let identity = &serving.identity;
    let answer = Answer {
        pod: &identity.name,
        namespace: &identity.namespace,
        node: &identity.node,
        container: &serving.container,
        address: ends.local.to_string(),
        client: ends.client.to_string(),
        method: parts.method.as_str(),
        path,
        headers: headers.collect(),
        body_bytes: body_bytes.unwrap_or(BODY_BYTES),
    };
    match wants_json(&parts.headers) {
        true => json(status, &answer),
        false => text(status, &answer),
    }
}

/// Whether a client names JSON among what it accepts.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|list| list.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind == "application/json" || kind.ends_with("+json")
    })
}

/// For people: who answers, who asked, and what arrived.
fn text(status: StatusCode, answer: &Answer<'_>) -> Response<Body> {
    let Answer { pod, namespace, node, container, address, client, method, path, .. } = answer;
    let mut text = format!(
        "{pod} in {namespace} on {node} (container {container}, a stand-in)\n\
         client {client}, server {address}\n\n{method} {path}\n"
    );
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\n");
    }
    if answer.body_bytes > 0 {
        text += &format!("\n({} bytes of body)\n", answer.body_bytes);
    }
    response(status, "text/plain; charset=utf-8", text.into_bytes())
}

/// Questions and answers of one call go on side by side.
fn reflected(questions: Incoming) -> Response<Body> {
    let mut response = Response::new(reflection::serve(questions));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// How long a body is; `None` when it is longer than is read, or was broken off.
async fn drain(mut body: Incoming) -> Option<usize> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.ok()?.data_ref().map_or(0, Bytes::len);
        if length > BODY_BYTES {
            return None;
        }
    }
    Some(length)
}

fn json(status: StatusCode, answer: &Answer<'_>) -> Response<Body> {
    let mut text = serde_json::to_vec_pretty(answer).unwrap_or_default();
    text.push(b'\n');
    response(status, "application/json", text)
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("kilter-stand-in"));
    response
}
