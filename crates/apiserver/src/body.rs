//! Reading what clients send, with bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::status::Status;
use crate::{decode, protobuf};

/// The media type of YAML (RFC 9512).
const YAML: &str = "application/yaml";
/// The largest body that is taken (as etcd-backed servers do).
pub const LIMIT: usize = 3 * 1024 * 1024;
/// How much of a larger one is read and thrown away, so that its sender sees the refusal rather than
/// a broken connection.
const DRAINED: usize = 16 * LIMIT;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body.
///
/// # Errors
/// 413, 408, or 400 where the connection broke.
pub async fn read<B>(body: B) -> Result<Bytes, Status>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(PATIENCE, collect(body)).await;
    collected.unwrap_or_else(|_| Err(Status::body_timeout()))
}

async fn collect<B>(body: B) -> Result<Bytes, Status>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let (mut whole, mut seen) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let error = error.into();
            Status::bad_request(format!("the body of the request could not be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= LIMIT {
            whole.extend_from_slice(&data);
        } else if seen > DRAINED {
            break;
        }
    }
    if seen > LIMIT { Err(Status::too_large(LIMIT)) } else { Ok(whole.freeze()) }
}

/// The media type of the body, without parameters.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// A document of whatever kind, as JSON, with the paths of fields that appear twice; null where the
/// body is empty.
///
/// # Errors
/// 415 for what is neither JSON, YAML nor protobuf, 400 for what cannot be read, 413, 408.
pub async fn document(request: Request<Incoming>) -> Result<(Value, Vec<String>), Status> {
    let media_type = media_type(request.headers()).to_owned();
    let bytes = read(request.into_body()).await?;
    match media_type.as_str() {
        _ if bytes.is_empty() => Ok((Value::Null, vec![])),
        "" | "application/json" | "*/*" => decode::json(&bytes),
        YAML => decode::yaml(&bytes),
        protobuf::MEDIA_TYPE => match protobuf::decode(&bytes) {
            Ok(value) => Ok((value, vec![])),
            Err(error) => {
                Err(Status::bad_request(format!("the body of the request is not valid protobuf: {error}")))
            }
        },
        other => {
            Err(Status::unsupported_media_type(other, &["application/json", YAML, protobuf::MEDIA_TYPE]))
        }
    }
}
