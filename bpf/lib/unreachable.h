/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the sender of a packet from beyond this node is told when it cannot go on: ICMP errors, and resets. */
#ifndef KILTER_UNREACHABLE_H
#define KILTER_UNREACHABLE_H

#include "base.h"
#include "checksum.h"
#include "ends.h"
#include "packet.h"
#include "redirect.h"
#include "reset.h"

/* Of the packet's transport header; every sender finds its socket by these (RFC 792, RFC 4443). */
#define QUOTED 8
/* The extension header before it, of a first fragment of IPv6. */
#define FRAGMENT_HEADER 8

struct error_frame4 {
	struct ethhdr link;
	struct iphdr ip;
	struct icmphdr icmp;
	struct iphdr quoted;
	__u8 transport[QUOTED];
} __attribute__((packed));
_Static_assert(sizeof(struct error_frame4) == 70, "headers follow each other");

struct error_frame6 {
	struct ethhdr link;
	struct ipv6hdr ip;
	struct icmphdr icmp;
	struct ipv6hdr quoted;
	__u8 transport[FRAGMENT_HEADER + QUOTED];
} __attribute__((packed));
_Static_assert(sizeof(struct error_frame6) == 118, "headers follow each other");

enum complaint {
	NOBODY_THERE,
	TOO_BIG,
	TOO_OLD,
};

static __always_inline struct icmphdr complaint4(enum complaint complaint, __u32 mtu)
{
	struct icmphdr icmp = {.type = ICMP_DEST_UNREACH, .code = 3};

	if (complaint == TOO_OLD) {
		icmp.type = ICMP_TIME_EXCEEDED;
		icmp.code = 0;
	} else if (complaint == TOO_BIG) {
		icmp.code = 4;
		icmp.sequence = bpf_htons(mtu);
	}
	return icmp;
}

static __always_inline struct icmphdr complaint6(enum complaint complaint, __u32 mtu)
{
	struct icmphdr icmp = {.type = ICMPV6_UNREACHABLE, .code = 4};

	if (complaint == TOO_OLD) {
		icmp.type = ICMPV6_TIME_EXCEEDED;
		icmp.code = 0;
	} else if (complaint == TOO_BIG) {
		icmp.type = ICMPV6_TOO_BIG;
		icmp.code = 0;
		icmp.id = bpf_htons(mtu >> 16);
		icmp.sequence = bpf_htons(mtu);
	}
	return icmp;
}

/* What the packet has become is for who sent it. */
static __noinline int send_back(struct __sk_buff *skb, const struct packet *packet)
{
	struct flow_end end = remote_end(&packet->source);

	return away_to(skb, &end, &packet->source);
}

/*
 * Makes the packet an error about itself. It is sent by the caller: the way into the tunnel needs room on
 * the stack, too.
 */
__global int write_complaint4(struct __sk_buff *skb, const struct packet *packet, enum complaint complaint,
			      __u32 mtu)
{
	struct error_frame4 frame = {};
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(sizeof(frame) - ETH_HLEN),
		.ttl = 64,
		.protocol = IPPROTO_ICMP,
	};

	if (!packet)
		return -1;
	if (bpf_skb_load_bytes(skb, 0, &frame.link, sizeof(frame.link)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &frame.quoted, sizeof(frame.quoted) + QUOTED) ||
	    bpf_skb_change_tail(skb, sizeof(frame), 0))
		return -1;
	ip.saddr = unmapped(&packet->destination);
	ip.daddr = unmapped(&packet->source);
	ip.check = ~fold(sum_of(&ip, sizeof(ip)));
	frame.ip = ip;
	frame.icmp = complaint4(complaint, mtu);
	frame.icmp.checksum = ~fold(sum_of(&frame.icmp, sizeof(frame) - ETH_HLEN - sizeof(ip)));
	return bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), BPF_F_RECOMPUTE_CSUM);
}

__global int write_complaint6(struct __sk_buff *skb, const struct packet *packet, enum complaint complaint,
			      __u32 mtu)
{
	struct error_frame6 frame = {};
	__u32 spared, length;

	if (!packet)
		return -1;
	spared = packet->kind == PACKET_FIRST_FRAGMENT ? 0 : FRAGMENT_HEADER;
	length = sizeof(frame) - ETH_HLEN - sizeof(frame.ip) - spared;
	if (bpf_skb_load_bytes(skb, 0, &frame.link, sizeof(frame.link)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &frame.quoted, length - sizeof(frame.icmp)) ||
	    bpf_skb_change_tail(skb, sizeof(frame) - spared, 0))
		return -1;
	frame.ip.version = 6;
	frame.ip.payload_len = bpf_htons(length);
	frame.ip.nexthdr = IPPROTO_ICMPV6;
	frame.ip.hop_limit = 64;
	__builtin_memcpy(&frame.ip.saddr, &packet->destination, sizeof(packet->destination));
	__builtin_memcpy(&frame.ip.daddr, &packet->source, sizeof(packet->source));
	frame.icmp = complaint6(complaint, mtu);
	/* What is spared is zero, and makes no difference to a sum. */
	frame.icmp.checksum = ~fold(sum_of(&frame.icmp, sizeof(frame) - ETH_HLEN - sizeof(frame.ip)) +
				    pseudo_sum(&packet->source, IPPROTO_ICMPV6, length));
	return bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame) - spared, BPF_F_RECOMPUTE_CSUM);
}

/* Sends the packet's sender an error about it; nothing where it has options, or is none's first. */
static __always_inline int complain(struct __sk_buff *skb, const struct packet *packet, enum complaint complaint,
				    __u32 mtu)
{
	__u32 header = reset_header(packet);

	/* A node would take it for the width of the whole way to this one, which the tunnel takes, too. */
	if (complaint == TOO_BIG && config.overlay && node_of(&packet->source))
		return drop_quietly(DROP_NO_ROUTE);
	if (packet->kind == PACKET_FIRST_FRAGMENT && packet->version == 6)
		header += FRAGMENT_HEADER;
	if ((packet->kind != PACKET_PLAIN && packet->kind != PACKET_FIRST_FRAGMENT) || packet->header != header)
		return DROP;
	if (packet->version == 4 ? write_complaint4(skb, packet, complaint, mtu) :
				   write_complaint6(skb, packet, complaint, mtu))
		return DROP;
	return send_back(skb, packet);
}

static __noinline int refuse_by_reset(struct __sk_buff *skb, const struct packet *packet)
{
	struct spoken spoken = {};

	if (!begin_reset(skb, packet, &spoken) || write_reset(skb, packet, &spoken, RESET_BACK))
		return DROP;
	return send_back(skb, packet);
}

/* Says at once that nobody serves here. */
static __always_inline int refuse_packet(struct __sk_buff *skb, const struct packet *packet)
{
	if (packet->protocol != IPPROTO_TCP)
		return complain(skb, packet, NOBODY_THERE, 0);
	return is_resettable(packet) ? refuse_by_reset(skb, packet) : DROP;
}

#endif
