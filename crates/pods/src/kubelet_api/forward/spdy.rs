//! SPDY/3.1 framing, as far as port-forward needs it: `kubectl` opens streams, one pair for each
//! connection. There is no other use of it left, so there is no library for it either.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use tokio_util::codec::{Decoder, Encoder};

const VERSION: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
const HEAD: usize = 8;
/// Far more than a client sends in one frame.
const LONGEST_FRAME: usize = 1 << 20;
/// Far more than the headers of a stream.
const LONGEST_HEADERS: usize = 16 << 10;

/// What a client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream and its headers.
    Open { stream: u32, headers: Vec<(String, String)>, end: bool },
    /// Data of a stream.
    Data { stream: u32, data: Bytes, end: bool },
    /// A stream is given up.
    Reset { stream: u32 },
    /// To be answered with itself.
    Ping(u32),
    /// No more streams will come.
    GoAway,
    /// Settings, windows: nothing that matters here.
    Other,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A stream is accepted.
    Accept { stream: u32 },
    /// Data of a stream.
    Data { stream: u32, data: Bytes, end: bool },
    /// A stream is refused.
    Refuse { stream: u32 },
    /// The echo of a ping.
    Ping(u32),
}

/// One side of a connection: headers are compressed in one context for its whole life.
pub(super) struct Codec {
    inflate: Decompress,
    headers_sent: bool,
}

impl Default for Codec {
    fn default() -> Self {
        Self { inflate: Decompress::new(true), headers_sent: false }
    }
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not SPDY/3.1: {}", what.into()))
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Frame>> {
        let Some(head) = from.get(..HEAD) else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        if length > LONGEST_FRAME {
            return Err(bad(format!("a frame of {length} bytes")));
        }
        if from.len() < HEAD + length {
            from.reserve(HEAD + length - from.len());
            return Ok(None);
        }
        from.advance(HEAD);
        let mut payload = from.split_to(length).freeze();
        let end = flags & FIN != 0;
        if first >> 31 == 0 {
            return Ok(Some(Frame::Data { stream: first, data: payload, end }));
        }
        let (version, kind) = ((first >> 16) as u16, first as u16);
        if version != VERSION {
            return Err(bad(format!("version {}", version & 0x7fff)));
        }
        let number = |payload: &mut Bytes| payload.try_get_u32().map_err(|_| bad("a short frame"));
        Ok(Some(match kind {
            SYN_STREAM => {
                let stream = number(&mut payload)? & (u32::MAX >> 1);
                // The associated stream, priority and slot.
                number(&mut payload)?;
                payload.try_get_u16().map_err(|_| bad("a short frame"))?;
                Frame::Open { stream, headers: self.headers(&payload)?, end }
            }
            RST_STREAM => Frame::Reset { stream: number(&mut payload)? },
            PING => Frame::Ping(number(&mut payload)?),
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        }))
    }
}

impl Codec {
    fn headers(&mut self, compressed: &[u8]) -> io::Result<Vec<(String, String)>> {
        let mut block = Bytes::from(self.inflate(compressed)?);
        let count = block.try_get_u32().map_err(|_| bad("short headers"))?;
        let mut headers = vec![];
        for _ in 0..count {
            headers.push((text(&mut block)?, text(&mut block)?));
        }
        Ok(headers)
    }

    fn inflate(&mut self, mut compressed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(1024);
        while !compressed.is_empty() && out.len() < LONGEST_HEADERS {
            out.reserve(1024);
            let before = self.inflate.total_in();
            let status = self.inflate.decompress_vec(compressed, &mut out, FlushDecompress::Sync);
            compressed = &compressed[(self.inflate.total_in() - before) as usize..];
            match status {
                Ok(Status::Ok) => {}
                Ok(_) => break,
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&dictionary()).map_err(|e| bad(e.to_string()))?;
                }
                Err(error) => return Err(bad(error.to_string())),
            }
        }
        Ok(out)
    }
}

fn text(block: &mut Bytes) -> io::Result<String> {
    let length = block.try_get_u32().map_err(|_| bad("short headers"))? as usize;
    if length > block.len() {
        return Err(bad("short headers"));
    }
    Ok(String::from_utf8_lossy(&block.split_to(length)).into_owned())
}

impl Encoder<Answer> for Codec {
    type Error = io::Error;

    fn encode(&mut self, answer: Answer, to: &mut BytesMut) -> io::Result<()> {
        match answer {
            Answer::Accept { stream } => {
                /// What a zlib stream begins with (RFC 1950).
                const ZLIB: [u8; 2] = [0x78, 0x01];
                /// No headers: the number 0 in a block that is stored, not compressed (RFC 1951), and
                /// an empty block, at which readers hand out what they have.
                const NONE: [u8; 14] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
                let begun = std::mem::replace(&mut self.headers_sent, true);
                let start: &[u8] = if begun { &[] } else { &ZLIB };
                control(to, SYN_REPLY, 4 + start.len() + NONE.len());
                to.put_u32(stream);
                to.put_slice(start);
                to.put_slice(&NONE);
            }
            Answer::Data { stream, data, end } => {
                to.put_u32(stream);
                to.put_u32((u32::from(if end { FIN } else { 0 }) << 24) | data.len() as u32);
                to.put_slice(&data);
            }
            Answer::Refuse { stream } => {
                const REFUSED_STREAM: u32 = 3;
                control(to, RST_STREAM, 8);
                to.put_u32(stream);
                to.put_u32(REFUSED_STREAM);
            }
            Answer::Ping(id) => {
                control(to, PING, 4);
                to.put_u32(id);
            }
        }
        Ok(())
    }
}

fn control(to: &mut BytesMut, kind: u16, length: usize) {
    to.put_u16(VERSION);
    to.put_u16(kind);
    to.put_u32(length as u32);
}

/// What both sides' header compression knows from the start (SPDY/3, section 2.6.10.1): words with
/// their lengths, then running text.
fn dictionary() -> Vec<u8> {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
        accept-language accept-ranges age allow authorization cache-control connection content-base \
        content-encoding content-language content-length content-location content-md5 content-range \
        content-type date etag expect expires from host if-match if-modified-since if-none-match if-range \
        if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization \
        range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning \
        www-authenticate method get status";
    const MORE: [&str; 8] =
        ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"];
    const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417\
        502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
        Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
        UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, \
        Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
        text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
        utf-,*,enq=0.";
    let mut out = Vec::with_capacity(1423);
    for word in WORDS.split_whitespace().chain(MORE) {
        out.put_u32(word.len() as u32);
        out.put_slice(word.as_bytes());
    }
    out.put_slice(TEXT.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// A client's frame that opens a stream.
    fn open(compress: &mut Compress, stream: u32, headers: &[(&str, &str)]) -> BytesMut {
        let mut block = BytesMut::new();
        block.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(k, v)| [k, v]) {
            block.put_u32(text.len() as u32);
            block.put_slice(text.as_bytes());
        }
        let mut compressed = Vec::with_capacity(1024);
        compress.compress_vec(&block, &mut compressed, FlushCompress::Sync).expect("compressed");
        let mut frame = BytesMut::new();
        control(&mut frame, SYN_STREAM, 10 + compressed.len());
        frame.put_u32(stream);
        frame.put_slice(&[0; 6]);
        frame.put_slice(&compressed);
        frame
    }

    #[test]
    fn streams_share_one_compression_context() {
        let mut compress = Compress::new(Compression::best(), true);
        // The checksum by which every SPDY implementation names the dictionary.
        assert_eq!(compress.set_dictionary(&dictionary()).expect("set"), 0xe3c6_a7c2);
        let mut codec = Codec::default();
        for stream in [1, 3, 5] {
            let headers = [("streamtype", "data"), ("port", "8080"), ("requestid", "0")];
            let mut frame = open(&mut compress, stream, &headers);
            let whole = frame.clone();
            for cut in [4, 12, whole.len() - 1] {
                assert_eq!(codec.decode(&mut BytesMut::from(&whole[..cut])).expect("valid"), None);
            }
            let headers = headers.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
            assert_eq!(codec.decode(&mut frame).expect("valid"), Some(Frame::Open { stream, headers, end: false }));
        }
    }

    #[test]
    fn broken_frames_are_errors() {
        let decode = |bytes: &[u8]| Codec::default().decode(&mut BytesMut::from(bytes));
        for bytes in [
            &[0x80, 2, 0, 1, 0, 0, 0, 0][..],
            &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0],
            &[0x80, 3, 0, 1, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7],
            &[0, 0, 0, 1, 0, 0xff, 0xff, 0xff],
        ] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
        let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9];
        assert_eq!(decode(&ping).expect("valid"), Some(Frame::Ping(9)));
        let mut echo = BytesMut::new();
        Codec::default().encode(Answer::Ping(9), &mut echo).expect("written");
        assert_eq!(&echo[..], &ping);
    }
}
