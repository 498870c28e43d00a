//! The frames of `v5.channel.k8s.io` and `v4.channel.k8s.io`: a channel's number, then data.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::program::Size;

/// Subprotocols, best first. The fifth knows how to close one channel.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
/// Carries one `v1.Status` at the end.
pub(super) const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the number of the channel that will carry no more.
const CLOSE: u8 = 255;

/// What a client sends.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// For the program.
    Stdin(Bytes),
    /// The program will get no more.
    StdinClosed,
    /// The terminal has this size now.
    Resize(Size),
}

/// Reads a frame; what makes no sense is passed over, as the kubelet does.
pub(super) fn decode(frame: &Bytes) -> Option<Input> {
    match (*frame.first()?, &frame[1..]) {
        (STDIN, _) => Some(Input::Stdin(frame.slice(1..))),
        (CLOSE, [STDIN]) => Some(Input::StdinClosed),
        (RESIZE, data) => serde_json::from_slice(data).ok().map(Input::Resize),
        _ => None,
    }
}

/// A frame of a channel.
pub(super) fn encode(channel: u8, data: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(1 + data.len());
    frame.push(channel);
    frame.extend_from_slice(data);
    frame.into()
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    /// With this exit code; 128 and the signal's number for a signal.
    Exited(i32),
    /// It could not be run or waited for.
    Failed(String),
}

/// The `v1.Status` that tells a client how the program ended.
pub(super) fn status(finish: &Finish) -> Value {
    match finish {
        Finish::Exited(0) => json!({"metadata": {}, "status": "Success"}),
        Finish::Exited(code) => json!({
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Finish::Failed(why) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "message": why, "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_a_channel_and_its_data() {
        let table: [(&[u8], Option<Input>); 7] = [
            (b"\x00ls\n", Some(Input::Stdin(Bytes::from_static(b"ls\n")))),
            (b"\x00", Some(Input::Stdin(Bytes::new()))),
            (b"\xff\x00", Some(Input::StdinClosed)),
            (b"\xff\x01", None),
            (b"\x04{\"Width\":80,\"Height\":24}", Some(Input::Resize(Size { width: 80, height: 24 }))),
            (b"\x04{}", None),
            (b"", None),
        ];
        for (frame, expected) in table {
            assert_eq!(decode(&Bytes::copy_from_slice(frame)), expected, "{frame:?}");
        }
        assert_eq!(encode(STDERR, b"no").as_ref(), b"\x02no");
    }

    #[test]
    fn an_exit_code_is_a_cause() {
        assert_eq!(status(&Finish::Exited(0))["status"], "Success");
        assert_eq!(status(&Finish::Exited(3))["details"]["causes"][0]["message"], "3");
    }
}
