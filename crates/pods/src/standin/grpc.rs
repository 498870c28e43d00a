//! `grpc.health.v1.Health`, by hand: one message of one field each way.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::watch;

use super::behaviour::Behaviour;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// `HealthCheckResponse{status}`: SERVING is 1, NOT_SERVING is 2 (health.proto).
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 2];

/// gRPC status codes (grpc/doc/statuscodes.md).
pub(super) const OK: &str = "0";
const UNIMPLEMENTED: &str = "12";

pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Whether a request is a call of gRPC.
pub fn is_call<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether a call wants to be told of changes, too.
pub(super) fn is_watch(path: &str) -> bool {
    path == WATCH
}

/// Tells how the server is, and again whenever that changes, until the client has heard enough or the
/// server is closed.
pub(super) fn watch(behaviour: watch::Receiver<Behaviour>) -> Response<Body> {
    let frames = futures::stream::unfold((behaviour, None), |(mut behaviour, told)| async move {
        let serves = |behaviour: &Behaviour| !behaviour.failures.grpc;
        let now = *behaviour.wait_for(|it| Some(serves(it)) != told).await.ok()?;
        let frame = Frame::data(Bytes::from_static(message(serves(&now))));
        Some((Ok(frame), (behaviour, Some(serves(&now)))))
    });
    response(StreamBody::new(frames).boxed_unsync())
}

fn message(serving: bool) -> &'static [u8] {
    if serving { SERVING } else { NOT_SERVING }
}

/// Answers a call: health checks as told, everything else "unimplemented".
pub fn answer(path: &str, serving: bool) -> Response<Body> {
    let (message, status) = match path {
        CHECK => (Some(message(serving)), OK),
        _ => (None, UNIMPLEMENTED),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let data = message.map(|bytes| Ok(Frame::data(Bytes::from_static(bytes))));
    let frames = data.into_iter().chain([Ok(Frame::trailers(trailers))]);
    response(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
}

fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
