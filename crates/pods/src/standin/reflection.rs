//! gRPC server reflection (grpc.reflection.v1 and v1alpha), so that `grpcurl` and its like can ask
//! a stand-in what it offers: the health service.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};

use super::grpc::{Body, OK};

/// Longer questions are not read.
const QUESTION_BYTES: usize = 64 << 10;

const SERVICES: [&str; 2] = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];

/// NOT_FOUND (grpc/doc/statuscodes.md).
const NOT_FOUND: u8 = 5;

/// Whether a call is one for this service.
pub(super) fn is_reflection(path: &str) -> bool {
    matches!(
        path,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
}

/// Answers questions as they come, until the client has no more.
pub(super) fn serve(questions: Incoming) -> Body {
    let frames = futures::stream::unfold(Some((questions, BytesMut::new())), |state: Option<(Incoming, BytesMut)>| async move {
        let (mut questions, mut pending) = state?;
        loop {
            if let Some(question) = next_message(&mut pending) {
                let answer = Frame::data(framed(&answer(&question)));
                return Some((Ok(answer), Some((questions, pending))));
            }
            match questions.frame().await {
                Some(Ok(frame)) if pending.len() < QUESTION_BYTES => {
                    if let Some(data) = frame.data_ref() {
                        pending.extend_from_slice(data);
                    }
                }
                _ => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static(OK));
                    return Some((Ok(Frame::trailers(trailers)), None));
                }
            }
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// A whole message out of gRPC's frames.
fn next_message(pending: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(pending.get(1..5)?.try_into().ok()?) as usize;
    if pending.len() < 5 + length {
        return None;
    }
    pending.advance(5);
    Some(pending.split_to(length).freeze())
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// `ServerReflectionResponse` to a `ServerReflectionRequest`.
fn answer(question: &[u8]) -> Vec<u8> {
    let of_health = |symbol: &[u8]| symbol.starts_with(b"grpc.health.v1");
    let body = match asked(question) {
        Some((3, b"grpc/health/v1/health.proto")) => field(4, &field(1, &health_proto())),
        Some((4, symbol)) if of_health(symbol) => field(4, &field(1, &health_proto())),
        Some((7, _)) => {
            let services = SERVICES.map(|name| field(1, &field(1, name.as_bytes())));
            field(6, &services.concat())
        }
        _ => field(7, &[&[0x08, NOT_FOUND][..], &field(2, b"a stand-in knows of grpc.health.v1 only")].concat()),
    };
    [field(2, question), body].concat()
}

/// What a request asks: the number of its field, and its value. `host` comes before it.
fn asked(mut question: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let (tag, rest) = question.split_first()?;
        let (length, rest) = varint(rest)?;
        let value = rest.get(..length)?;
        // Every field of the request is length-delimited.
        match (tag >> 3, tag & 7) {
            (1, 2) => question = &rest[length..],
            (number, 2) => return Some((number, value)),
            _ => return None,
        }
    }
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=end].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    Some((value, &bytes[end + 1..]))
}

/// A length-delimited field of protobuf.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
    out
}

fn number(field: u8, value: u8) -> [u8; 2] {
    [field << 3, value]
}

/// `FileDescriptorProto` (descriptor.proto) of grpc/health/v1/health.proto.
fn health_proto() -> Vec<u8> {
    const OPTIONAL: u8 = 1;
    const STRING: u8 = 9;
    const ENUM: u8 = 14;
    let member = |name: &str, kind: u8, of: &[u8]| {
        let one = [number(3, 1), number(4, OPTIONAL), number(5, kind)].concat();
        field(2, &[field(1, name.as_bytes()), one, of.to_vec(), field(10, name.as_bytes())].concat())
    };
    let states = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
    let states = states.iter().enumerate().flat_map(|(at, name)| {
        field(2, &[field(1, name.as_bytes()), number(2, at as u8).to_vec()].concat())
    });
    let status = [field(1, b"ServingStatus"), states.collect()].concat();
    let request = [field(1, b"HealthCheckRequest"), member("service", STRING, &[])].concat();
    let of = field(6, b".grpc.health.v1.HealthCheckResponse.ServingStatus");
    let response = [field(1, b"HealthCheckResponse"), member("status", ENUM, &of), field(4, &status)].concat();
    let method = |name: &str, streaming: &[u8]| {
        let types = [field(2, b".grpc.health.v1.HealthCheckRequest"), field(3, b".grpc.health.v1.HealthCheckResponse")];
        field(2, &[field(1, name.as_bytes()), types.concat(), streaming.to_vec()].concat())
    };
    let service = [field(1, b"Health"), method("Check", &[]), method("Watch", &number(6, 1))].concat();
    [
        field(1, b"grpc/health/v1/health.proto"),
        field(2, b"grpc.health.v1"),
        field(4, &request),
        field(4, &response),
        field(6, &service),
        field(12, b"proto3"),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_apart_and_answered() {
        let text = |question: &[u8]| String::from_utf8_lossy(&answer(question)).into_owned();
        assert!(SERVICES.iter().all(|service| text(&field(7, b"*")).contains(service)));
        let with_host = [field(1, b"web"), field(4, b"grpc.health.v1.Health")].concat();
        for question in [with_host, field(3, b"grpc/health/v1/health.proto"), field(4, b"grpc.health.v1.Health.Check")] {
            assert!(text(&question).contains("HealthCheckResponse.ServingStatus"), "{question:?}");
        }
        assert!(text(&field(4, b"shop.Cart")).contains("knows of grpc.health.v1 only"));
        assert!(text(b"\xff").contains("knows of"));
    }

    #[test]
    fn messages_are_taken_out_of_whatever_pieces_they_come_in() {
        let mut pending = BytesMut::new();
        let both = [framed(b"one"), framed(b"")].concat();
        let mut taken = Vec::new();
        for byte in both {
            pending.extend_from_slice(&[byte]);
            taken.extend(next_message(&mut pending));
        }
        assert_eq!(taken, [&b"one"[..], b""]);
    }
}
