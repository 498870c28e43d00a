//! One query in, one reply out, as bytes; no sockets.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use crate::Identity;
use crate::server::Source;
use crate::zone::Answer;

/// The largest UDP reply, and what our EDNS offers (DNS Flag Day 2020): fits one packet anywhere.
pub(crate) const MAX_UDP: u16 = 1232;

/// The largest reply over TCP: the length has 16 bits.
pub(crate) const MAX_TCP: u16 = u16::MAX;

/// Bytes of a DNS header.
const HEADER: usize = 12;

/// What to do with a query.
pub(crate) enum Step {
    /// Send this.
    Reply(Box<Reply>),
    /// Ask somebody else, and pass on what they say.
    Forward(Box<Reply>),
    /// Ask somebody else what the alias leads to, and add it to the reply.
    Onward(Box<Reply>, Query),
    /// Not a query: an answer to it might start a loop.
    Ignore,
}

/// A reply and how large it may be over UDP.
pub(crate) struct Reply {
    pub(crate) message: Message,
    /// What the asker takes over UDP, bytes.
    pub(crate) udp_limit: u16,
}

/// Decides about the bytes of a query. Never panics, whatever they are.
pub(crate) fn consider(source: &Source, identity: &Identity, bytes: &[u8]) -> Step {
    let (Some(id), Some(flags)) = (bytes.first_chunk::<2>(), bytes.get(2)) else { return Step::Ignore };
    if bytes.len() < HEADER || flags & 0x80 != 0 {
        return Step::Ignore;
    }
    let Ok(request) = Message::from_vec(bytes) else {
        let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
        let message = Message::error_msg(u16::from_be_bytes(*id), op_code, ResponseCode::FormErr);
        return Step::Reply(Box::new(Reply { message, udp_limit: 512 }));
    };
    if request.metadata.message_type != MessageType::Query {
        return Step::Ignore;
    }
    let reply = Box::new(Reply::to(&request));
    match refusal(&request) {
        Some(code) => Step::Reply(reply.with_code(code)),
        None => match request.queries.into_iter().next() {
            Some(query) if query.query_class == DNSClass::CH => Step::Reply(reply.about(identity, &query)),
            Some(query) => answer(source, query, reply),
            None => Step::Reply(reply.with_code(ResponseCode::FormErr)),
        },
    }
}

/// What is wrong with a well-formed request, if anything.
fn refusal(request: &Message) -> Option<ResponseCode> {
    let class = request.queries.first().map(|q| q.query_class);
    if request.metadata.op_code != OpCode::Query {
        Some(ResponseCode::NotImp)
    } else if request.queries.len() != 1 {
        Some(ResponseCode::FormErr)
    } else if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        Some(ResponseCode::BADVERS)
    } else if !matches!(class, Some(DNSClass::IN | DNSClass::ANY | DNSClass::CH)) {
        Some(ResponseCode::Refused)
    } else if request.queries.first().is_some_and(|q| is_transfer(q.query_type)) {
        Some(ResponseCode::Refused)
    } else {
        None
    }
}

fn is_transfer(kind: RecordType) -> bool {
    matches!(kind, RecordType::AXFR | RecordType::IXFR)
}

fn answer(source: &Source, query: Query, mut reply: Box<Reply>) -> Step {
    let (name, kind) = (query.name.clone(), query.query_type);
    match source.answer(&name, kind) {
        Answer::Elsewhere => Step::Forward(reply),
        Answer::NotReady => Step::Reply(reply.with_code(ResponseCode::ServFail)),
        Answer::Negative { code, answers, authority } => {
            reply.message.metadata.authoritative = true;
            reply.message.answers = answers;
            reply.message.authorities = vec![*authority];
            Step::Reply(reply.with_code(code))
        }
        Answer::Records { answers, additionals, onward } => {
            reply.message.metadata.authoritative = true;
            reply.message.answers = answers;
            reply.message.additionals = additionals;
            reply.rotate();
            match onward {
                Some(target) => Step::Onward(reply, Query::query(target, kind)),
                None => Step::Reply(reply),
            }
        }
    }
}

impl Reply {
    /// An empty reply to a request.
    fn to(request: &Message) -> Self {
        let mut message = Message::response(request.metadata.id, request.metadata.op_code);
        message.metadata = Metadata::response_from_request(&request.metadata);
        message.add_queries(request.queries.iter().cloned());
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP);
            message.set_edns(edns);
        }
        Self { message, udp_limit: request.max_payload().min(MAX_UDP) }
    }

    pub(crate) fn with_code(mut self: Box<Self>, code: ResponseCode) -> Box<Self> {
        self.message.metadata.response_code = code;
        if let Some(edns) = &mut self.message.edns {
            edns.set_rcode_high(code.high());
        }
        self
    }

    /// The answer of the server about itself.
    fn about(mut self: Box<Self>, identity: &Identity, query: &Query) -> Box<Self> {
        match identity.answer(query) {
            Ok(answers) => {
                self.message.metadata.authoritative = true;
                self.message.answers = answers;
                self
            }
            Err(code) => self.with_code(code),
        }
    }

    /// Starts the addresses elsewhere each time (the id is random): most clients take the first.
    fn rotate(&mut self) {
        let is_address = |data: &RData| matches!(data, RData::A(_) | RData::AAAA(_));
        let first = self.message.answers.iter().position(|r| is_address(&r.data));
        if let Some(addresses) = first.and_then(|at| self.message.answers.get_mut(at..)) {
            let by = usize::from(self.message.metadata.id) % addresses.len().max(1);
            addresses.rotate_left(by);
        }
    }

    /// The reply in at most `limit` bytes: without what may be left out, or else without records
    /// and with the flag that sends the asker to TCP. `None` if it cannot be put into bytes.
    pub(crate) fn encode(mut self, limit: u16) -> Option<Vec<u8>> {
        let fits = |bytes: &Vec<u8>| bytes.len() <= usize::from(limit);
        let encoded = |message: &Message| {
            message.to_vec().inspect_err(|error| tracing::warn!(%error, "reply cannot be encoded")).ok()
        };
        let bytes = encoded(&self.message)?;
        if fits(&bytes) {
            return Some(bytes);
        }
        self.message.additionals.clear();
        let bytes = encoded(&self.message)?;
        if fits(&bytes) { Some(bytes) } else { encoded(&self.message.truncate()).filter(fits) }
    }

    /// Adds what an upstream said about the end of a chain of aliases.
    pub(crate) fn continue_with(mut self: Box<Self>, upstream: Message) -> Box<Self> {
        self.message.answers.extend(upstream.answers);
        // What is not of this zone is not said with its authority.
        self.message.metadata.authoritative = false;
        self.with_code(upstream.metadata.response_code)
    }
}

/// A question of our own, with a random id.
pub(crate) fn question(query: Query) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query);
    message
}

/// The name asked for, for logs.
pub(crate) fn asked(message: &Message) -> Option<&Name> {
    message.queries.first().map(Query::name)
}
