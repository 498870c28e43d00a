use anyhow::{Context, bail};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::standin::PROBE_HEADER;
use crate::version::PROBE_USER_AGENT;

/// An answer is one byte of status; anything much longer is not one.
const ANSWER_BYTES: usize = 4096;

/// `SERVING` (health.proto).
pub(super) const SERVING: u8 = 1;

/// A health status as the protocol names it.
pub(super) fn status_name(status: u8) -> &'static str {
    match status {
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

/// `grpc.health.v1.Health/Check` without TLS: the health status's number.
pub(super) async fn check(
    stream: TcpStream,
    authority: &str,
    service: &str,
    kind: &'static str,
) -> anyhow::Result<u8> {
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", PROBE_USER_AGENT)
        .header(PROBE_HEADER, HeaderValue::from_static(kind))
        .body(Full::new(request_message(service)))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let refused = response.headers().get("grpc-status").cloned();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned().or(refused);
        match status.as_ref().map(HeaderValue::as_bytes) {
            Some(b"0") => serving_status(&body.to_bytes()).context("the answer is no health status"),
            Some(b"12") => {
                bail!("this server does not implement the grpc health protocol (grpc.health.v1.Health)")
            }
            Some(other) => bail!("health rpc probe failed: the server answered with grpc status {}", String::from_utf8_lossy(other)),
            None => bail!("health rpc probe failed: the answer has no grpc status"),
        }
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        status = &mut exchange => status,
        ended = connection => {
            ended?;
            // It may end just after it has handed over the answer.
            exchange.await
        }
    }
}

/// `HealthCheckRequest{service}` in a gRPC frame. Field 1 is left out when empty (proto3).
fn request_message(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

fn put_varint(to: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// The status in a framed `HealthCheckResponse`; an empty message is UNKNOWN (0).
fn serving_status(frame: &[u8]) -> Option<u8> {
    match frame {
        [0, 0, 0, 0, 0] => Some(0),
        [0, 0, 0, 0, 2, 0x08, status] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_protobuf() {
        assert_eq!(request_message("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(request_message("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(request_message(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[1, 0, 0, 0, 0]), None);
    }
}
