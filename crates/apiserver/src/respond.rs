//! Answers.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue, WARNING};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::Value;

use crate::status::Status;

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Answer = Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Bytes as a body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Pieces as a body; the next one is made when the client has taken the last.
pub fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(pieces.map(|bytes| Ok(Frame::data(bytes)))))
}

/// JSON that is already written.
pub fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Answer {
    json_body(code, full(bytes))
}

/// A body that is JSON.
pub fn json_body(code: StatusCode, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// A value as JSON.
pub fn json(code: StatusCode, value: &Value) -> Answer {
    json_bytes(code, value.to_string())
}

/// Plain text.
pub fn text(code: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(full(text));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// A refusal.
pub fn refusal(status: &Status) -> Answer {
    let mut answer = json(status.code, &status.to_value());
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64() {
        answer.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// Adds warnings that `kubectl` prints (RFC 7234, code 299).
pub fn warn(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(WARNING, value);
        }
    }
}
