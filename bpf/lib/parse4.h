/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* IPv4 to a struct packet. */
#ifndef KILTER_PARSE4_H
#define KILTER_PARSE4_H

#include "base.h"
#include "packet.h"

/* `offset`: of the quoted packet in the frame. It travelled the other way, to whom it is told now. */
__global int parse_error4(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	struct iphdr quoted;
	__be16 word[4];

	if (!packet)
		return DROP_MALFORMED;
	if (bpf_skb_load_bytes(skb, offset, &quoted, sizeof(quoted)) || quoted.version != 4 || quoted.ihl < 5)
		return DROP_MALFORMED;
	if (quoted.saddr != unmapped(&packet->destination))
		return DROP_MALFORMED;
	if (quoted.frag_off & bpf_htons(IP_OFFSET))
		return DROP_FRAGMENT;
	if (bpf_skb_load_bytes(skb, offset + quoted.ihl * 4, word, sizeof(word)))
		return DROP_MALFORMED;
	packet->from = mapped(quoted.daddr);
	quote(packet, quoted.protocol, word);
	return DROP_NONE;
}

static __always_inline int parse_icmp4(struct __sk_buff *skb, struct packet *packet, void *at, void *end)
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
		return parse_error4(skb, packet, ETH_HLEN + packet->header + sizeof(*icmp));
	case ICMP_REDIRECT:
	case ICMP_SOURCE_QUENCH:
		/* Nobody but an attacker sends them to a pod; the one route a pod has is right. */
		return DROP_MALFORMED;
	default:
		return DROP_NONE;
	}
}

/* Only what lies in the linear part; see parse(). */
static __always_inline int parse4(struct __sk_buff *skb, struct packet *packet)
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
	packet->version = 4;
	packet->source = packet->from = mapped(ip->saddr);
	packet->destination = mapped(ip->daddr);
	packet->protocol = ip->protocol;
	packet->ttl = ip->ttl;
	packet->header = header;
	if (ip->saddr == ip->daddr)
		return DROP_MALFORMED;

	fragment = ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET);
	if (fragment) {
		packet->id = ip->id;
		fragment = bpf_ntohs(fragment) & IP_OFFSET;
		if (fragment)
			return parse_later_fragment(packet, fragment);
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
		return parse_icmp4(skb, packet, at, end);
	}
	return DROP_NONE;
}

#endif
