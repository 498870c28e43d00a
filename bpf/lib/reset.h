/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A TCP connection that policy has ended is reset at both ends, instead of leaving them to time out:
 * the packet that found out is turned into two resets. Numbers are the packet's own, so each end finds
 * its reset within its window (RFC 5961 wants exactly the next byte).
 */
#ifndef KILTER_RESET_H
#define KILTER_RESET_H

#include "base.h"
#include "checksum.h"
#include "event.h"
#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "packet.h"
#include "redirect.h"

/* Without options and extension headers: see is_resettable(). */
static __always_inline __u32 reset_header(const struct packet *packet)
{
	return packet->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* What the packet said, before it is overwritten. */
struct spoken {
	__u32 seq;	/* network order */
	__u32 ack;	/* network order */
	__u32 next;	/* the byte after the packet's last, network order */
	__u8 partial;	/* its checksum is left to the device */
};

enum reset_way {
	RESET_ONWARD,
	RESET_BACK,
};

/*
 * Programs cannot ask whether the device is to finish the checksum (CHECKSUM_PARTIAL); but then a
 * correction of the sum is ignored, which shows.
 */
static __always_inline bool checksum_is_partial(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 offset = ETH_HLEN + reset_header(packet) + offsetof(struct tcphdr, check);
	__u16 before = 0, after = 0;

	bpf_skb_load_bytes(skb, offset, &before, sizeof(before));
	bpf_l4_csum_replace(skb, offset, 0, bpf_htons(1), sizeof(__u16));
	bpf_skb_load_bytes(skb, offset, &after, sizeof(after));
	return before == after;
}

/* How long the packet is from its TCP header on; 0 when the header is not there. */
static __always_inline __u32 tcp_length(struct __sk_buff *skb, const struct packet *packet)
{
	__be16 length;

	if (packet->version == 4) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, tot_len), &length, 2))
			return 0;
		return bpf_ntohs(length) - sizeof(struct iphdr);
	}
	if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, payload_len), &length, 2))
		return 0;
	return bpf_ntohs(length);
}

/* Reads what is needed of the packet and cuts it down to its headers. */
static __always_inline bool begin_reset(struct __sk_buff *skb, const struct packet *packet,
					struct spoken *spoken)
{
	__u32 header = ETH_HLEN + reset_header(packet);
	__u32 length = tcp_length(skb, packet);
	struct tcphdr tcp;

	if (!length || bpf_skb_load_bytes(skb, header, &tcp, sizeof(tcp)))
		return false;
	spoken->seq = tcp.seq;
	spoken->ack = tcp.ack ? tcp.ack_seq : 0;
	spoken->next = bpf_htonl(bpf_ntohl(tcp.seq) + length - tcp.doff * 4 + tcp.syn + tcp.fin);
	spoken->partial = checksum_is_partial(skb, packet);
	return !bpf_skb_change_tail(skb, header + sizeof(tcp), 0);
}

/* The segment itself, with its checksum: who is source and who destination makes no difference to it. */
static __always_inline struct tcphdr reset_segment(const struct packet *packet, const struct spoken *spoken,
						   enum reset_way way)
{
	struct tcphdr segment = {.doff = 5, .rst = 1, .ack = 1};

	if (way == RESET_BACK) {
		segment.source = packet->to_port;
		segment.dest = packet->from_port;
		segment.seq = spoken->ack;
		segment.ack_seq = spoken->next;
	} else {
		segment.source = packet->from_port;
		segment.dest = packet->to_port;
		segment.seq = spoken->seq;
		segment.ack_seq = spoken->ack;
	}
	if (spoken->partial)
		segment.check = fold(pseudo_sum(&packet->source, IPPROTO_TCP, sizeof(segment)));
	else
		segment.check = checksum(&packet->source, IPPROTO_TCP, &segment, sizeof(segment));
	return segment;
}

static __always_inline int store_header4(struct __sk_buff *skb, const struct address *from,
					 const struct address *to, __u32 length)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(sizeof(ip) + length),
		.frag_off = bpf_htons(0x4000), /* do not fragment */
		.ttl = 64,
		.protocol = IPPROTO_TCP,
		.saddr = unmapped(from),
		.daddr = unmapped(to),
	};

	ip.check = ~fold(sum_of(&ip, sizeof(ip)));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int store_header6(struct __sk_buff *skb, const struct address *from,
					 const struct address *to, __u32 length)
{
	struct ipv6hdr ip = {.version = 6, .nexthdr = IPPROTO_TCP, .hop_limit = 64};

	ip.payload_len = bpf_htons(length);
	__builtin_memcpy(&ip.saddr, from, sizeof(*from));
	__builtin_memcpy(&ip.daddr, to, sizeof(*to));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/* The IP header of a TCP segment of so many bytes, which has come from nowhere yet. */
static __always_inline int store_header(struct __sk_buff *skb, __u8 version, const struct address *from,
					const struct address *to, __u32 length)
{
	return version == 4 ? store_header4(skb, from, to, length) : store_header6(skb, from, to, length);
}

__global int write_reset(struct __sk_buff *skb, const struct packet *packet, const struct spoken *spoken,
			 enum reset_way way)
{
	struct tcphdr segment;
	int failed;

	if (!packet || !spoken)
		return -1;
	segment = reset_segment(packet, spoken, way);
	if (way == RESET_BACK)
		failed = store_header(skb, packet->version, &packet->destination, &packet->source, sizeof(segment));
	else
		failed = store_header(skb, packet->version, &packet->source, &packet->destination, sizeof(segment));
	if (failed)
		return -1;
	return bpf_skb_store_bytes(skb, ETH_HLEN + reset_header(packet), &segment, sizeof(segment),
				   BPF_F_RECOMPUTE_CSUM);
}

/*
 * Makes what is known of a packet of a translated connection what its client knows of it, or would: his
 * resets are from and to the one whom he asked. `way` is his reset's.
 */
static __noinline int as_client_knows(struct packet *packet, enum reset_way way)
{
	struct tuple key = tuple_of(packet);
	struct nat *row;

	if (way == RESET_BACK)
		key = reverse(&key);
	row = bpf_map_lookup_elem(&nat, &key);
	if (!row)
		return -1;
	if (way == RESET_BACK) {
		packet->source = row->to.destination;
		packet->destination = row->to.source;
		packet->from_port = row->to.destination_port;
		packet->to_port = row->to.source_port;
	} else {
		packet->source = row->to.source;
		packet->destination = row->to.destination;
		packet->from_port = row->to.source_port;
		packet->to_port = row->to.destination_port;
	}
	return 0;
}

/* Whether resets can be made of this packet, and are called for. */
static __always_inline bool is_resettable(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP && packet->kind == PACKET_PLAIN &&
	       !(packet->tcp_flags & TCP_RST) && packet->header == reset_header(packet);
}

static __always_inline void address_to_pod(struct __sk_buff *skb, const struct flow_end *pod)
{
	__u16 macs[6];

	copy_mac(macs, pod->mac);
	copy_gateway_mac(macs + 3);
	bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
}

static __always_inline void address_from_pod(struct __sk_buff *skb, const struct flow_end *pod)
{
	__u16 macs[6];

	copy_gateway_mac(macs);
	copy_mac(macs + 3, pod->mac);
	bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
}

/* Sends what the frame is now into the pod at `end`, past its policy. */
static __always_inline void reset_pod(struct __sk_buff *skb, const struct flow_end *end)
{
	address_to_pod(skb, end);
	skb->mark = config.reset_mark;
	bpf_clone_redirect(skb, end->via, 0);
	skb->mark = 0;
}

/* The pod at the other side of this ingress hook is told back, the rest of the way onward. */
static __noinline int reset_from_pod(struct __sk_buff *skb, struct packet *packet, const struct flow *flow,
				     __u32 sender)
{
	struct spoken spoken = {};

	if (!begin_reset(skb, packet, &spoken) || write_reset(skb, packet, &spoken, RESET_BACK))
		return DROP;
	reset_pod(skb, &flow->end[sender & 1]);
	if ((flow->state & FLOW_TRANSLATED) && as_client_knows(packet, RESET_ONWARD))
		return DROP;
	if (write_reset(skb, packet, &spoken, RESET_ONWARD))
		return DROP;
	count(COUNT_RESETS);
	return deliver_slowly(skb, packet, flow, sender);
}

/* From another node: the pod is told, and the sender the way he came. */
static __noinline int reset_from_remote(struct __sk_buff *skb, struct packet *packet, const struct flow *flow,
					__u32 sender)
{
	struct spoken spoken = {};

	if (!begin_reset(skb, packet, &spoken))
		return DROP;
	if ((flow->state & FLOW_TRANSLATED) && sender != flow->opener && as_client_knows(packet, RESET_ONWARD))
		return DROP;
	if (write_reset(skb, packet, &spoken, RESET_ONWARD))
		return DROP;
	reset_pod(skb, &flow->end[other(sender)]);
	if ((flow->state & FLOW_TRANSLATED) && as_client_knows(packet, RESET_BACK))
		return DROP;
	if (write_reset(skb, packet, &spoken, RESET_BACK))
		return DROP;
	count(COUNT_RESETS);
	return away_to(skb, &flow->end[sender & 1], &packet->source);
}

/*
 * From the stack: the pod is told by what the packet becomes. Who sent it may be behind address
 * translation, which only the stack undoes; so the reset for him enters as if the pod sent it.
 */
static __noinline int reset_to_pod(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
				   __u32 sender)
{
	const struct flow_end *pod = &flow->end[other(sender)];
	struct spoken spoken = {};

	if (!begin_reset(skb, packet, &spoken) || write_reset(skb, packet, &spoken, RESET_BACK))
		return DROP;
	address_from_pod(skb, pod);
	skb->mark = config.reset_mark;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	skb->mark = 0;
	if (write_reset(skb, packet, &spoken, RESET_ONWARD))
		return DROP;
	address_to_pod(skb, pod);
	count(COUNT_RESETS);
	return PASS;
}

#endif
