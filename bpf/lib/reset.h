/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A TCP connection that policy has ended is reset at both ends, instead of leaving them to time out:
 * the packet that found out is turned into two resets. Numbers are the packet's own, so each end finds
 * its reset within its window (RFC 5961 wants exactly the next byte).
 */
#ifndef KILTER_RESET_H
#define KILTER_RESET_H

#include "base.h"
#include "event.h"
#include "flow.h"
#include "maps.h"
#include "parse.h"
#include "redirect.h"

struct reset_frame {
	struct ethhdr link;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));
_Static_assert(sizeof(struct reset_frame) == 54, "headers follow each other");

#define TCP_CHECK (ETH_HLEN + sizeof(struct iphdr) + offsetof(struct tcphdr, check))

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

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/*
 * Programs cannot ask whether the device is to finish the checksum (CHECKSUM_PARTIAL); but then a
 * correction of the sum is ignored, which shows.
 */
static __always_inline bool checksum_is_partial(struct __sk_buff *skb)
{
	__u16 before = 0, after = 0;

	bpf_skb_load_bytes(skb, TCP_CHECK, &before, sizeof(before));
	bpf_l4_csum_replace(skb, TCP_CHECK, 0, bpf_htons(1), sizeof(__u16));
	bpf_skb_load_bytes(skb, TCP_CHECK, &after, sizeof(after));
	return before == after;
}

/* Reads what is needed of the packet and cuts it down to its headers. */
static __always_inline bool begin_reset(struct __sk_buff *skb, struct spoken *spoken)
{
	struct iphdr ip;
	struct tcphdr tcp;
	__u32 payload;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip), &tcp, sizeof(tcp)))
		return false;
	payload = bpf_ntohs(ip.tot_len) - sizeof(ip) - tcp.doff * 4 + tcp.syn + tcp.fin;
	spoken->seq = tcp.seq;
	spoken->ack = tcp.ack ? tcp.ack_seq : 0;
	spoken->next = bpf_htonl(bpf_ntohl(tcp.seq) + payload);
	spoken->partial = checksum_is_partial(skb);
	return !bpf_skb_change_tail(skb, sizeof(struct reset_frame), 0);
}

static __noinline int write_reset(struct __sk_buff *skb, const struct packet *packet, const struct spoken *spoken,
				  enum reset_way way)
{
	struct reset_frame frame = {};
	__u64 pseudo;

	if (bpf_skb_load_bytes(skb, 0, &frame.link, sizeof(frame.link)))
		return -1;
	frame.ip.version = 4;
	frame.ip.ihl = 5;
	frame.ip.tot_len = bpf_htons(sizeof(frame.ip) + sizeof(frame.tcp));
	frame.ip.frag_off = bpf_htons(0x4000); /* do not fragment */
	frame.ip.ttl = 64;
	frame.ip.protocol = IPPROTO_TCP;
	frame.tcp.doff = 5;
	frame.tcp.rst = 1;
	frame.tcp.ack = 1;
	if (way == RESET_BACK) {
		frame.ip.saddr = packet->destination;
		frame.ip.daddr = packet->source;
		frame.tcp.source = packet->to_port;
		frame.tcp.dest = packet->from_port;
		frame.tcp.seq = spoken->ack;
		frame.tcp.ack_seq = spoken->next;
	} else {
		frame.ip.saddr = packet->source;
		frame.ip.daddr = packet->destination;
		frame.tcp.source = packet->from_port;
		frame.tcp.dest = packet->to_port;
		frame.tcp.seq = spoken->seq;
		frame.tcp.ack_seq = spoken->ack;
	}
	frame.ip.check = ~fold((__u32)bpf_csum_diff(NULL, 0, (void *)&frame.ip, sizeof(frame.ip), 0));
	/* Addresses, protocol and length: the header that is not sent but summed (RFC 9293, 3.1). */
	pseudo = (__u64)frame.ip.saddr + frame.ip.daddr + bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(frame.tcp));
	pseudo = (pseudo & 0xffffffff) + (pseudo >> 32);
	pseudo = (pseudo & 0xffffffff) + (pseudo >> 32);
	if (spoken->partial)
		frame.tcp.check = fold(pseudo);
	else
		frame.tcp.check = ~fold(
			(__u32)bpf_csum_diff(NULL, 0, (void *)&frame.tcp, sizeof(frame.tcp), 0) + pseudo);
	return bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), BPF_F_RECOMPUTE_CSUM);
}

/* Whether resets can be made of this packet, and are called for. */
static __always_inline bool is_resettable(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP && packet->kind == PACKET_PLAIN &&
	       !(packet->tcp_flags & TCP_RST) && packet->header == sizeof(struct iphdr);
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
static __noinline int reset_from_pod(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
				     __u32 sender)
{
	struct spoken spoken = {};

	if (!begin_reset(skb, &spoken) || write_reset(skb, packet, &spoken, RESET_BACK))
		return DROP;
	reset_pod(skb, &flow->end[sender & 1]);
	if (write_reset(skb, packet, &spoken, RESET_ONWARD))
		return DROP;
	count(COUNT_RESETS);
	return deliver(skb, packet, flow, sender);
}

/* From another node: the pod is told, and the sender back over the uplink. */
static __noinline int reset_from_uplink(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
					__u32 sender)
{
	struct spoken spoken = {};

	if (!begin_reset(skb, &spoken) || write_reset(skb, packet, &spoken, RESET_ONWARD))
		return DROP;
	reset_pod(skb, &flow->end[other(sender)]);
	if (write_reset(skb, packet, &spoken, RESET_BACK))
		return DROP;
	count(COUNT_RESETS);
	return bpf_redirect_neigh(config.uplink, NULL, 0, 0);
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

	if (!begin_reset(skb, &spoken) || write_reset(skb, packet, &spoken, RESET_BACK))
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
