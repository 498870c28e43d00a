/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A packet as the rest of the programs sees it, whatever its version of IP. */
#ifndef KILTER_PACKET_H
#define KILTER_PACKET_H

#include "base.h"
#include "maps.h"

enum echo {
	ECHO_NONE = 0,
	ECHO_REQUEST = 1,
	ECHO_REPLY = 2,
};

enum packet_kind {
	PACKET_PLAIN = 0,
	PACKET_FIRST_FRAGMENT = 1,
	PACKET_LATER_FRAGMENT = 2,
	PACKET_ICMP_ERROR = 3,
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/*
 * Whose packet it is, and which flow it belongs to. For an ICMP error those two differ: it belongs to
 * the flow of the packet that it quotes, which travelled the other way.
 */
struct packet {
	/* Of the IP header; one after the other, as they are summed in checksums. */
	struct address source;
	struct address destination;
	/* Of the flow, in the direction in which this packet travels: from here to the destination. */
	struct address from;
	__be16 from_port;
	__be16 to_port;
	__be32 id;    /* of a fragmented packet */
	__u16 header; /* length of the IP header, extensions and all */
	__u8 version;
	__u8 protocol;
	__u8 echo;
	__u8 tcp_flags; /* 0 in later fragments */
	__u8 ttl;
	__u8 kind : 6;
	__u8 attempt : 1;    /* of a connection from outside that nobody has answered */
	__u8 translated : 1; /* by the row of struct nat that it had */
};

/* Whether it can only be the first packet of a connection, never one of a known flow. */
static __always_inline bool opens(const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static __always_inline __u8 icmp_of(const struct packet *packet)
{
	return packet->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
}

static __always_inline void set_echo(struct packet *packet, __u8 echo, __be16 id)
{
	packet->echo = echo;
	packet->from_port = packet->to_port = id;
}

static __always_inline struct fragment_key fragment_key(const struct packet *packet)
{
	struct fragment_key key = {
		.source = packet->source,
		.destination = packet->destination,
		.id = packet->id,
		.protocol = packet->version == 4 ? packet->protocol : 0,
	};

	return key;
}

/* To be called once a first fragment is accepted: then the others are too. */
__global int remember_fragment(const struct packet *packet)
{
	struct fragment fragment = {};
	struct fragment_key key;

	if (!packet)
		return 0;
	key = fragment_key(packet);
	fragment.source_port = packet->from_port;
	fragment.destination_port = packet->to_port;
	fragment.protocol = packet->protocol;
	fragment.echo = packet->echo;
	return bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
}

/* `offset`: in units of eight bytes. */
__global int parse_later_fragment(struct packet *packet, __u32 offset)
{
	struct fragment_key key;
	struct fragment *fragment;

	if (!packet)
		return DROP_MALFORMED;
	/* Eight bytes in, a "fragment" would rewrite the flags of the TCP header (RFC 1858). */
	if (packet->protocol == IPPROTO_TCP && offset == 1)
		return DROP_MALFORMED;
	key = fragment_key(packet);
	fragment = bpf_map_lookup_elem(&fragments, &key);
	if (!fragment)
		return DROP_FRAGMENT;
	packet->kind = PACKET_LATER_FRAGMENT;
	packet->protocol = fragment->protocol;
	packet->from_port = fragment->source_port;
	packet->to_port = fragment->destination_port;
	packet->echo = fragment->echo;
	return DROP_NONE;
}

/*
 * Takes over what an ICMP error quotes of the packet's transport header: `word` are its first eight
 * bytes, which every error quotes (RFC 792, RFC 4443). An echo's direction is seen from its receiver.
 */
static __always_inline void quote(struct packet *packet, __u8 protocol, const __be16 word[4])
{
	__u8 type = *(const __u8 *)word;

	packet->kind = PACKET_ICMP_ERROR;
	packet->protocol = protocol;
	if (has_ports(protocol)) {
		packet->from_port = word[1];
		packet->to_port = word[0];
	} else if (protocol == icmp_of(packet)) {
		/* An error about anything but echo has no flow (and none is sent about an error). */
		if (type == (packet->version == 4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST))
			set_echo(packet, ECHO_REPLY, word[2]);
		else if (type == (packet->version == 4 ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY))
			set_echo(packet, ECHO_REQUEST, word[2]);
	}
}

#endif
