/// What a client speaks, judged by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// `KILTER-WHO`.
    Who,
    /// HTTP/1.x or HTTP/2 with prior knowledge.
    Http,
    /// A TLS handshake.
    Tls,
    /// Anything else.
    Other,
    /// It could still become one of the first three.
    Undecided,
}

const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE "];
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";
/// A TLS record of type handshake, version 3.x.
const TLS: &[u8] = &[0x16, 0x03];

/// Judges the first bytes of a connection.
pub fn speech(start: &[u8]) -> Speech {
    if let Some(decided) =
        [(kilter_wire::control::WHO.as_bytes(), Speech::Who), (HTTP2, Speech::Http), (TLS, Speech::Tls)]
            .into_iter()
            .chain(METHODS.map(|method| (method, Speech::Http)))
            .find_map(|(prefix, speech)| judge(start, prefix, speech))
    {
        return decided;
    }
    Speech::Other
}

fn judge(start: &[u8], prefix: &[u8], speech: Speech) -> Option<Speech> {
    if start.starts_with(prefix) {
        return Some(speech);
    }
    prefix.starts_with(start).then_some(Speech::Undecided)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        let table: [(&[u8], Speech); 12] = [
            (b"", Speech::Undecided),
            (b"G", Speech::Undecided),
            (b"GET", Speech::Undecided),
            (b"GET / HTTP/1.1\r\n", Speech::Http),
            (b"P", Speech::Undecided),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Speech::Http),
            (b"PRINT", Speech::Other),
            (b"GETS", Speech::Other),
            (b"KILTER-WHO 1\n", Speech::Who),
            (&[0x16], Speech::Undecided),
            (&[0x16, 3, 1, 0], Speech::Tls),
            (b"*1\r\n$4\r\nPING\r\n", Speech::Other),
        ];
        for (start, expected) in table {
            assert_eq!(speech(start), expected, "{:?}", String::from_utf8_lossy(start));
        }
    }
}
