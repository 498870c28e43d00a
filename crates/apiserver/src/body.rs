//! Reading what clients send, with bounds.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::status::Status;

/// The largest body that is taken (as etcd-backed servers do).
pub const LIMIT: usize = 3 * 1024 * 1024;
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
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(Status::too_large(LIMIT));
    }
    match tokio::time::timeout(PATIENCE, Limited::new(body, LIMIT).collect()).await {
        Err(_) => Err(Status::body_timeout()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::too_large(LIMIT)),
        Ok(Err(error)) => {
            Err(Status::bad_request(format!("the body of the request could not be read: {error}")))
        }
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
    }
}

/// The media type of the body, without parameters.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Checks that the body is JSON; clients that say nothing mean JSON.
///
/// # Errors
/// 415.
pub fn expect_json(headers: &HeaderMap) -> Result<(), Status> {
    match media_type(headers) {
        "" | "application/json" | "*/*" => Ok(()),
        other => Err(Status::unsupported_media_type(other, &["application/json"])),
    }
}
