/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* IPv6 to a struct packet. */
#ifndef KILTER_PARSE6_H
#define KILTER_PARSE6_H

#include "base.h"
#include "packet.h"

/* More than any sender of good will puts there: each kind once, options twice (RFC 8200, 4.1). */
#define EXTENSIONS 6

/* A place in a chain of headers. */
struct chain {
	__u32 offset;	/* in the frame, of the header that `protocol` names */
	__u32 fragment; /* of the packet: its offset, in units of eight bytes */
	__be32 id;
	__u8 protocol;
	__u8 fragmented;
	__u8 pad[2];
};

struct extension {
	__u8 next;
	__u8 length;
	__be16 fragment; /* of a fragment header; else options begin here */
	__be32 id;
};

/*
 * Steps over extension headers, up to one that is none, or up to what a later fragment carries.
 * Authentication and encryption are transports here, as they are in IPv4.
 */
__global int skip_extensions(struct __sk_buff *skb, struct chain *chain)
{
	struct extension header;

	if (!chain)
		return DROP_MALFORMED;
	for (int i = 0; i < EXTENSIONS; i++) {
		if (chain->protocol != IPPROTO_HOPOPTS && chain->protocol != IPPROTO_DSTOPTS &&
		    chain->protocol != IPPROTO_ROUTING && chain->protocol != IPPROTO_FRAGMENT)
			return DROP_NONE;
		if (bpf_skb_load_bytes(skb, chain->offset, &header, sizeof(header)))
			return DROP_MALFORMED;
		if (chain->protocol == IPPROTO_FRAGMENT) {
			chain->offset += sizeof(header);
			chain->id = header.id;
			chain->fragment = bpf_ntohs(header.fragment) >> 3;
			/* Alone it is a whole packet (RFC 6946). */
			chain->fragmented = chain->fragment || (header.fragment & bpf_htons(1));
			chain->protocol = header.next;
			if (chain->fragment)
				return DROP_NONE;
			continue;
		}
		/* With segments left, it says where to go on to, past every rule (RFC 5095). */
		if (chain->protocol == IPPROTO_ROUTING && (header.fragment & bpf_htons(0xff)))
			return DROP_MALFORMED;
		chain->offset += (header.length + 1) * 8;
		chain->protocol = header.next;
	}
	return DROP_MALFORMED;
}

/* `offset`: of the quoted packet in the frame. It travelled the other way, to whom it is told now. */
__global int parse_error6(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	struct address quoted[2];
	struct chain chain = {.offset = offset + sizeof(struct ipv6hdr)};
	__be16 word[4];
	int reason;

	if (!packet)
		return DROP_MALFORMED;
	if (bpf_skb_load_bytes(skb, offset + offsetof(struct ipv6hdr, nexthdr), &chain.protocol, 1) ||
	    bpf_skb_load_bytes(skb, offset + offsetof(struct ipv6hdr, saddr), quoted, sizeof(quoted)))
		return DROP_MALFORMED;
	if (!same_address(&quoted[0], &packet->destination) || !quoted[1].half[0])
		return DROP_MALFORMED;
	reason = skip_extensions(skb, &chain);
	if (reason)
		return reason;
	if (chain.fragment)
		return DROP_FRAGMENT;
	if (bpf_skb_load_bytes(skb, chain.offset, word, sizeof(word)))
		return DROP_MALFORMED;
	packet->from = quoted[1];
	quote(packet, chain.protocol, word);
	return DROP_NONE;
}

static __always_inline int parse_icmp6(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	struct icmphdr icmp;

	if (bpf_skb_load_bytes(skb, offset, &icmp, sizeof(icmp)))
		return DROP_MALFORMED;
	switch (icmp.type) {
	case ICMPV6_ECHO_REQUEST:
		set_echo(packet, ECHO_REQUEST, icmp.id);
		return DROP_NONE;
	case ICMPV6_ECHO_REPLY:
		set_echo(packet, ECHO_REPLY, icmp.id);
		return DROP_NONE;
	case ICMPV6_UNREACHABLE:
	case ICMPV6_TOO_BIG:
	case ICMPV6_TIME_EXCEEDED:
	case ICMPV6_PARAMETER_PROBLEM:
		return parse_error6(skb, packet, offset + sizeof(icmp));
	case ICMPV6_LISTENER_QUERY ... ICMPV6_REDIRECT:
	case ICMPV6_LISTENER_REPORT_V2:
		/*
		 * Groups, routers and neighbours are matters of one link. To a global address they would
		 * pass for the receiver's own link: a redirect into a pod costs no hop.
		 */
		return DROP_LINK;
	default:
		return DROP_NONE;
	}
}

/* Extension headers and ICMP: everything that TCP and UDP do without. */
__global int parse_chain6(struct __sk_buff *skb, struct packet *packet)
{
	struct chain chain = {.offset = ETH_HLEN + sizeof(struct ipv6hdr)};
	__be16 ports[2];
	int reason;

	if (!packet)
		return DROP_MALFORMED;
	chain.protocol = packet->protocol;
	reason = skip_extensions(skb, &chain);
	if (reason)
		return reason;
	packet->protocol = chain.protocol;
	packet->header = chain.offset - ETH_HLEN;
	packet->id = chain.id;
	if (chain.fragment)
		return parse_later_fragment(packet, chain.fragment);
	if (chain.fragmented)
		packet->kind = PACKET_FIRST_FRAGMENT;
	if (packet->protocol == IPPROTO_ICMPV6)
		return parse_icmp6(skb, packet, chain.offset);
	if (!has_ports(packet->protocol))
		return DROP_NONE;
	if (bpf_skb_load_bytes(skb, chain.offset, ports, sizeof(ports)))
		return DROP_MALFORMED;
	packet->from_port = ports[0];
	packet->to_port = ports[1];
	/* The first fragment has all headers (RFC 7112), so the flags are there or nowhere. */
	if (packet->protocol == IPPROTO_TCP &&
	    bpf_skb_load_bytes(skb, chain.offset + 13, &packet->tcp_flags, 1))
		return DROP_MALFORMED;
	return DROP_NONE;
}

/* Packets carry addresses at even places only; what this runs on may read them all the same. */
static __always_inline struct address address_at(const void *at)
{
	const __u64 *half = at;
	struct address address = {{half[0], half[1]}};

	return address;
}

/* Only what lies in the linear part; see parse(). */
static __always_inline int parse6(struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + ETH_HLEN;
	void *at = ip + 1;

	if (at > end || ip->version != 6)
		return DROP_MALFORMED;
	packet->version = 6;
	packet->source = packet->from = address_at(&ip->saddr);
	packet->destination = address_at(&ip->daddr);
	packet->protocol = ip->nexthdr;
	packet->ttl = ip->hop_limit;
	packet->header = sizeof(*ip);
	/* Concerns the link alone: nobody behind another one is meant. */
	if (is_link_local(&packet->destination) || is_group(&packet->destination))
		return DROP_LINK;
	/* ::/64 is nobody's on a wire; the mapped form there would pass for IPv4. */
	if (!packet->source.half[0] || !packet->destination.half[0] ||
	    same_address(&packet->source, &packet->destination))
		return DROP_MALFORMED;

	if (packet->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at;

		if ((void *)(tcp + 1) > end)
			return DROP_MALFORMED;
		packet->from_port = tcp->source;
		packet->to_port = tcp->dest;
		packet->tcp_flags = ((__u8 *)tcp)[13];
		return DROP_NONE;
	}
	if (packet->protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;

		if ((void *)(udp + 1) > end)
			return DROP_MALFORMED;
		packet->from_port = udp->source;
		packet->to_port = udp->dest;
		return DROP_NONE;
	}
	return parse_chain6(skb, packet);
}

#endif
