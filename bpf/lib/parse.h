/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * From bytes to a struct packet: whose packet it is, and which flow it belongs to. For an ICMP error
 * those two differ: it belongs to the flow of the packet that it quotes.
 */
#ifndef KILTER_PARSE_H
#define KILTER_PARSE_H

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

struct packet {
	/* Of the IP header. */
	__be32 source;
	__be32 destination;
	/* Of the flow, in the direction in which this packet travels. */
	__be32 from;
	__be32 to;
	__be16 from_port;
	__be16 to_port;
	__u8 protocol;
	__u8 echo;
	__u8 tcp_flags; /* 0 in later fragments */
	__u8 ttl;
	__u8 kind;
	__u8 header; /* length of the IP header */
	__be16 id;
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
		.protocol = packet->protocol,
	};

	return key;
}

/* To be called once a first fragment is accepted: then the others are too. */
static __noinline int remember_fragment(const struct packet *packet)
{
	struct fragment_key key = fragment_key(packet);
	struct fragment fragment = {
		.source_port = packet->from_port,
		.destination_port = packet->to_port,
		.echo = packet->echo,
	};

	return bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
}

static __noinline int parse_later_fragment(struct packet *packet, __u32 offset)
{
	struct fragment_key key = fragment_key(packet);
	struct fragment *fragment;

	/* Eight bytes in, a "fragment" would rewrite the flags of the TCP header (RFC 1858). */
	if (packet->protocol == IPPROTO_TCP && offset == 1)
		return DROP_MALFORMED;
	fragment = bpf_map_lookup_elem(&fragments, &key);
	if (!fragment)
		return DROP_FRAGMENT;
	packet->from_port = fragment->source_port;
	packet->to_port = fragment->destination_port;
	packet->echo = fragment->echo;
	return DROP_NONE;
}

/* `offset`: of the quoted packet in the frame. It travelled the other way, to whom it is told now. */
static __noinline int parse_icmp_error(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	struct iphdr quoted;
	__be16 word[4]; /* the eight bytes that every error quotes (RFC 792) */

	if (bpf_skb_load_bytes(skb, offset, &quoted, sizeof(quoted)) || quoted.version != 4 || quoted.ihl < 5)
		return DROP_MALFORMED;
	if (quoted.saddr != packet->destination)
		return DROP_MALFORMED;
	if (quoted.frag_off & bpf_htons(IP_OFFSET))
		return DROP_FRAGMENT;
	if (bpf_skb_load_bytes(skb, offset + quoted.ihl * 4, word, sizeof(word)))
		return DROP_MALFORMED;
	packet->kind = PACKET_ICMP_ERROR;
	packet->protocol = quoted.protocol;
	packet->from = quoted.daddr;
	packet->to = quoted.saddr;
	if (has_ports(quoted.protocol)) {
		packet->from_port = word[1];
		packet->to_port = word[0];
	} else if (quoted.protocol == IPPROTO_ICMP) {
		/* An error about anything but echo has no flow (and none is sent about an error). */
		__u8 type = *(__u8 *)word;

		if (type == ICMP_ECHO)
			set_echo(packet, ECHO_REPLY, word[2]);
		else if (type == ICMP_ECHOREPLY)
			set_echo(packet, ECHO_REQUEST, word[2]);
	}
	return DROP_NONE;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *packet, void *at, void *end)
{
	struct icmphdr *icmp = at;

	if ((void *)(icmp + 1) > end)
		return DROP_MALFORMED;
	switch (icmp->type) {
	case ICMP_ECHO:
		set_echo(packet, ECHO_REQUEST, icmp->id);
		return DROP_NONE;
	case ICMP_ECHOREPLY:
		set_echo(packet, ECHO_REPLY, icmp->id);
		return DROP_NONE;
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return parse_icmp_error(skb, packet, ETH_HLEN + packet->header + sizeof(*icmp));
	case ICMP_REDIRECT:
	case ICMP_SOURCE_QUENCH:
		/* Nobody but an attacker sends them to a pod; the one route a pod has is right. */
		return DROP_MALFORMED;
	default:
		return DROP_NONE;
	}
}

/* Only what lies in the linear part; see parse(). */
static __always_inline int parse_linear(struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	__u32 fragment, header;
	void *at;

	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return DROP_MALFORMED;
	packet->source = packet->from = ip->saddr;
	packet->destination = packet->to = ip->daddr;
	packet->protocol = ip->protocol;
	packet->ttl = ip->ttl;
	packet->header = header;
	if (packet->source == packet->destination)
		return DROP_MALFORMED;

	fragment = ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET);
	if (fragment) {
		packet->id = ip->id;
		fragment = bpf_ntohs(fragment) & IP_OFFSET;
		if (fragment) {
			packet->kind = PACKET_LATER_FRAGMENT;
			return parse_later_fragment(packet, fragment);
		}
		packet->kind = PACKET_FIRST_FRAGMENT;
	}

	at = data + ETH_HLEN + header;
	if (packet->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at;

		if ((void *)(tcp + 1) > end)
			return DROP_MALFORMED;
		packet->from_port = tcp->source;
		packet->to_port = tcp->dest;
		packet->tcp_flags = ((__u8 *)tcp)[13];
	} else if (has_ports(packet->protocol)) {
		struct udphdr *udp = at; /* SCTP begins with the same two ports */

		if ((void *)(udp + 1) > end)
			return DROP_MALFORMED;
		packet->from_port = udp->source;
		packet->to_port = udp->dest;
	} else if (packet->protocol == IPPROTO_ICMP) {
		return parse_icmp(skb, packet, at, end);
	}
	return DROP_NONE;
}

/* Headers of 14 + 60 + 20 bytes. */
#define PULL 94

static __noinline int parse_again(struct __sk_buff *skb, struct packet *packet, int reason)
{
	__u32 want = skb->len < PULL ? skb->len : PULL;

	/* All there: it is the packet's fault. */
	if ((void *)(long)skb->data + want <= (void *)(long)skb->data_end || bpf_skb_pull_data(skb, want))
		return reason;
	return parse_linear(skb, packet);
}

/* Fills `packet`, which must be zeroed, or says why that is impossible. Moves packet pointers. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *packet)
{
	int reason = parse_linear(skb, packet);

	if (reason == DROP_MALFORMED)
		reason = parse_again(skb, packet, reason);
	return reason;
}

#endif
