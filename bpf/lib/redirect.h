/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The last step: into a pod, to another node, or to the stack. From tcx ingress only. */
#ifndef KILTER_REDIRECT_H
#define KILTER_REDIRECT_H

#include "base.h"
#include "ends.h"
#include "maps.h"
#include "packet.h"
#include "tunnel.h"

/*
 * redirect_peer would deliver what is too big, redirect_neigh would drop it silently: it goes to the
 * stack, which fragments it or answers "fragmentation needed". No link's MTU is below 576, so small
 * packets need no question.
 */
static __always_inline bool too_big(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 mtu = 0;

	if (skb->len <= 576)
		return false;
	return bpf_check_mtu(skb, ifindex, &mtu, 0, BPF_MTU_CHK_SEGS) != BPF_MTU_CHK_RET_SUCCESS;
}

static __always_inline int to_pod_of(struct __sk_buff *skb, const struct flow_end *end)
{
	void *data = (void *)(long)skb->data;
	struct ethhdr *ethernet = data;

	if (too_big(skb, end->via))
		return PASS;
	if (data + sizeof(*ethernet) > (void *)(long)skb->data_end)
		return DROP;
	copy_mac(ethernet->h_dest, end->mac);
	copy_gateway_mac(ethernet->h_source);
	return bpf_redirect_peer(end->via, 0);
}

/* RFC 1624: the header's sum changes by what its one word did. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 check = ip->check;

	check += bpf_htons(0x0100);
	ip->check = (__u16)(check + (check >= 0xffff));
	ip->ttl--;
}

/* One hop less; false when the header is not there. */
static __always_inline bool take_hop(struct __sk_buff *skb, const struct packet *packet)
{
	void *ip = (void *)(long)skb->data + ETH_HLEN;

	if (packet->version == 4) {
		if (ip + sizeof(struct iphdr) > (void *)(long)skb->data_end)
			return false;
		decrement_ttl(ip);
	} else {
		if (ip + sizeof(struct ipv6hdr) > (void *)(long)skb->data_end)
			return false;
		((struct ipv6hdr *)ip)->hop_limit--;
	}
	return true;
}

static __always_inline int to_neighbour(const struct address *address)
{
	struct bpf_redir_neigh next_hop = {};

	if (is_mapped(address)) {
		next_hop.nh_family = AF_INET;
		next_hop.ipv4_nh = unmapped(address);
	} else {
		next_hop.nh_family = AF_INET6;
		__builtin_memcpy(next_hop.ipv6_nh, address, sizeof(next_hop.ipv6_nh));
	}
	return bpf_redirect_neigh(config.uplink, &next_hop, sizeof(next_hop), 0);
}

/* Whether packets to an end that is not of this node go through the tunnel. */
static __always_inline bool is_tunnelled(const struct flow_end *end)
{
	return config.overlay && end->via;
}

/* Into the tunnel, to the node that an end is behind. A call of its own: stacks are short. */
__global int tunnel_to(struct __sk_buff *skb, const struct flow_end *end, const struct address *address)
{
	struct node *node;
	__u32 index;

	if (!end || !address)
		return DROP;
	node = bpf_map_lookup_elem(&nodes, &end->via);
	/* The node has gone since, or is back under another index. */
	if (!node || is_nobody(&node->next_hop)) {
		index = node_of(address);
		node = bpf_map_lookup_elem(&nodes, &index);
	}
	if (!node || is_nobody(&node->next_hop))
		return drop_quietly(DROP_NO_ROUTE);
	return to_tunnel(skb, node);
}

/* To an end of this address that is not of this node, whatever the packet is like. */
static __always_inline int away_to(struct __sk_buff *skb, const struct flow_end *end, const struct address *address)
{
	struct node *node;

	if (is_tunnelled(end))
		return tunnel_to(skb, end, address);
	node = bpf_map_lookup_elem(&nodes, &end->via);
	if (!node || is_nobody(&node->next_hop))
		return bpf_redirect_neigh(config.uplink, NULL, 0, 0);
	return to_neighbour(&node->next_hop);
}

static __always_inline int to_node_of(struct __sk_buff *skb, const struct packet *packet,
				      const struct flow_end *end)
{
	/* The stack says "time exceeded", or cuts it up, and finds the same next hop. */
	if (packet->ttl <= 1 || too_big(skb, is_tunnelled(end) ? config.overlay : config.uplink))
		return PASS;
	if (!take_hop(skb, packet))
		return DROP;
	return away_to(skb, end, &packet->destination);
}

/* Sends a packet of `sender` on its way to the other end. */
static __always_inline int deliver(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
				   __u32 sender)
{
	const struct flow_end *to = &flow->end[other(sender)];

	if (packet->kind == PACKET_FIRST_FRAGMENT)
		remember_fragment(packet);
	switch (to->kind) {
	case END_POD:
		return to_pod_of(skb, to);
	case END_REMOTE:
		return to_node_of(skb, packet, to);
	case END_OUTSIDE:
		/* The opener's packets alone: conntrack undoes for the replies what it did for them. */
		if (flow->opener == sender)
			skb->mark = config.egress_mark;
		return PASS;
	default:
		return PASS;
	}
}

/* The same where time matters less than the room on the stack that callers share. */
__global int deliver_slowly(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
			    __u32 sender)
{
	if (!packet || !flow)
		return DROP;
	return deliver(skb, packet, flow, sender & 1);
}

#endif
