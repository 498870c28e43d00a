//! One nftables transaction or listing over a plain netlink socket, inside a namespace.

use std::io;

use kilter_netns::NetNs;
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::Error;

/// `NFNL_SUBSYS_NFTABLES` (linux/netfilter/nfnetlink.h), the subsystem that a batch is for.
const SUBSYSTEM: u16 = 10;

/// The names of all nftables tables of a namespace with their families, `ip kilter`, for the search
/// for what was left behind.
pub fn tables(namespace: &NetNs) -> Result<Vec<String>, Error> {
    let query = NfTablesMessage::GetTable(TableMessage { attributes: vec![] });
    let listed = dump(namespace, NetfilterProtoFamily::Unspec, query)?;
    Ok(listed.iter().filter_map(table_name).collect())
}

fn table_name(message: &NetfilterMessage) -> Option<String> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = &message.inner else {
        return None;
    };
    let family = match message.header.family {
        NetfilterProtoFamily::IPv4 => "ip".to_owned(),
        NetfilterProtoFamily::IPv6 => "ip6".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    table.attributes.iter().find_map(|a| match a {
        TableAttribute::Name(name) => Some(format!("{family} {name}")),
        _ => None,
    })
}

/// All that the kernel lists for `query`.
pub(crate) fn dump(
    namespace: &NetNs,
    family: NetfilterProtoFamily,
    query: NfTablesMessage,
) -> Result<Vec<NetfilterMessage>, Error> {
    let name = namespace.path().display().to_string();
    let request = message(family, 0, query, NLM_F_REQUEST | NLM_F_DUMP, 1);
    let listed = namespace.run(|| {
        let socket = send(&[request])?;
        receive(&socket, 1)
    });
    match listed.map_err(io::Error::other).and_then(|listed| listed) {
        Ok(messages) => Ok(messages),
        Err(source) => Err(Error::new("list", "nftables", name, source)),
    }
}

/// Applies `changes`, all or none. Creations do not fail on what is there.
pub(crate) fn transaction(
    namespace: &NetNs,
    object: &str,
    family: NetfilterProtoFamily,
    changes: Vec<NfTablesMessage>,
) -> Result<(), Error> {
    let mut batch =
        vec![message(NetfilterProtoFamily::Unspec, SUBSYSTEM, ControlMessage::BatchBegin, NLM_F_REQUEST, 0)];
    let count = changes.len() as u32;
    for (sequence, change) in (1..).zip(changes) {
        let create = match change {
            NfTablesMessage::NewRule(_) => NLM_F_CREATE | NLM_F_APPEND,
            NfTablesMessage::NewTable(_) | NfTablesMessage::NewChain(_) => NLM_F_CREATE,
            _ => 0,
        };
        batch.push(message(family, 0, change, NLM_F_REQUEST | NLM_F_ACK | create, sequence));
    }
    let end =
        message(NetfilterProtoFamily::Unspec, SUBSYSTEM, ControlMessage::BatchEnd, NLM_F_REQUEST, count + 1);
    batch.push(end);
    let applied = namespace.run(|| {
        let socket = send(&batch)?;
        (0..count).try_for_each(|_| receive(&socket, 0).map(drop))
    });
    let name = namespace.path().display().to_string();
    match applied.map_err(io::Error::other).and_then(|applied| applied) {
        Ok(()) => Ok(()),
        Err(source) => Err(Error::new("change", object, name, source)),
    }
}

fn message(
    family: NetfilterProtoFamily,
    resource: u16,
    inner: impl Into<NetfilterMessageInner>,
    flags: u16,
    sequence: u32,
) -> NetlinkMessage<NetfilterMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let inner = NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(inner));
    message.finalize();
    message
}

fn send(messages: &[NetlinkMessage<NetfilterMessage>]) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut buffer = vec![0; messages.iter().map(|m| m.buffer_len().next_multiple_of(4)).sum()];
    let mut at = 0;
    for message in messages {
        message.serialize(&mut buffer[at..at + message.buffer_len()]);
        at += message.buffer_len().next_multiple_of(4);
    }
    socket.send(&buffer, 0)?;
    Ok(socket)
}

/// Reads up to the end of a listing, or to an acknowledgement. `listing` is the sequence number of a
/// listing, which ends with DONE; 0 when an acknowledgement is awaited.
fn receive(socket: &Socket, listing: u32) -> io::Result<Vec<NetfilterMessage>> {
    let mut found = Vec::new();
    loop {
        let (buffer, _) = socket.recv_from_full()?;
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4).min(rest.len());
            rest = &rest[length..];
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => found.push(inner),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) if listing == 0 => return Ok(found),
                NetlinkPayload::Done(_) => return Ok(found),
                _ => {}
            }
        }
    }
}
