use std::io::{BufRead, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message in bytes: a peer that sends more is cut off instead of filling memory.
pub const MAX_LINE: usize = 64 << 20;

/// Why a message could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The other side sent something that is not the expected message.
    #[error("the message is malformed")]
    Malformed(#[from] serde_json::Error),
    /// The other side sent more than [`MAX_LINE`].
    #[error("the message is longer than {MAX_LINE} bytes")]
    TooLong,
}

/// A message as one line, newline included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// A message from one line, with or without its newline.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    Ok(serde_json::from_slice(line)?)
}

/// Writes one message.
pub fn write_message<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), LineError> {
    to.write_all(&encode(message)?)?;
    Ok(to.flush()?)
}

/// Reads one message; `None` at the end of the stream.
pub fn read_message<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>, LineError> {
    let mut line = Vec::new();
    from.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)?;
    match line.len() {
        0 => Ok(None),
        n if n > MAX_LINE => Err(LineError::TooLong),
        _ => Ok(Some(decode(&line)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_one_by_one() {
        let mut stream = Vec::new();
        write_message(&mut stream, &vec!["a\nb"]).unwrap();
        write_message(&mut stream, &vec!["c"]).unwrap();
        let mut reader = stream.as_slice();
        assert_eq!(read_message::<Vec<String>>(&mut reader).unwrap().unwrap(), ["a\nb"]);
        assert_eq!(read_message::<Vec<String>>(&mut reader).unwrap().unwrap(), ["c"]);
        assert!(read_message::<Vec<String>>(&mut reader).unwrap().is_none());
    }

    #[test]
    fn a_truncated_message_is_an_error_not_a_message() {
        assert!(matches!(read_message::<Vec<String>>(&mut &b"[\"a\""[..]), Err(LineError::Malformed(_))));
    }
}
