/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The flow table: finding an entry, whether it still holds, and what a packet changes in it. */
#ifndef KILTER_FLOW_H
#define KILTER_FLOW_H

#include "base.h"
#include "event.h"
#include "maps.h"
#include "packet.h"

/* Any total order does; the bytes as they lie there have one. */
static __always_inline bool comes_after(const struct address *from, __be16 from_port, const struct address *to,
					__be16 to_port)
{
	if (from->half[0] != to->half[0])
		return from->half[0] > to->half[0];
	if (from->half[1] != to->half[1])
		return from->half[1] > to->half[1];
	return from_port > to_port;
}

/* Writes the key of a packet's flow and returns which end sent the packet. */
static __always_inline __u32 flow_key(const struct packet *packet, struct flow_key *key)
{
	__u32 sender = comes_after(&packet->from, packet->from_port, &packet->destination, packet->to_port);

	if (sender) {
		key->address[0] = packet->destination;
		key->address[1] = packet->from;
		key->port[0] = packet->to_port;
		key->port[1] = packet->from_port;
	} else {
		key->address[0] = packet->from;
		key->address[1] = packet->destination;
		key->port[0] = packet->from_port;
		key->port[1] = packet->to_port;
	}
	key->protocol = packet->protocol;
	key->pad[0] = key->pad[1] = 0;
	/* Both ends may ping each other with one identifier: these are two flows. */
	key->echo = packet->echo ? 2 + (packet->echo == ECHO_REQUEST ? sender : !sender) : 0;
	return sender;
}

/* The same of a tuple, of a protocol with ports. */
static __always_inline __u32 flow_key_of(const struct tuple *ends, struct flow_key *key)
{
	__u32 sender = comes_after(&ends->source, ends->source_port, &ends->destination, ends->destination_port);

	key->address[0] = sender ? ends->destination : ends->source;
	key->address[1] = sender ? ends->source : ends->destination;
	key->port[0] = sender ? ends->destination_port : ends->source_port;
	key->port[1] = sender ? ends->source_port : ends->destination_port;
	key->protocol = ends->protocol;
	key->echo = key->pad[0] = key->pad[1] = 0;
	return sender;
}

/* Whether neither end's class or posture has changed since the flow was judged. */
static __always_inline bool flow_current(const struct flow *flow)
{
	__u32 *first = bpf_map_lookup_elem(&generations, &flow->end[0].slot);
	__u32 *second = bpf_map_lookup_elem(&generations, &flow->end[1].slot);

	return first && second && *first == flow->end[0].generation && *second == flow->end[1].generation;
}

/* Notes a packet of `sender`. Writes only what changes: an entry is read by several CPUs. */
static __always_inline void flow_touch(struct flow *flow, const struct packet *packet, __u32 sender)
{
	__u32 now = clock_now();
	__u8 state = flow->state;

	if (packet->kind == PACKET_ICMP_ERROR)
		return;
	if (sender != flow->opener)
		state |= FLOW_REPLIED;
	if (packet->tcp_flags & TCP_FIN)
		state |= sender ? FLOW_FIN_1 : FLOW_FIN_0;
	if (packet->tcp_flags & TCP_RST)
		state |= FLOW_RESET;
	if (state != flow->state)
		flow->state = state;
	if (now != flow->seen)
		flow->seen = now;
}

/* The pod that answers for a flow's entry: the opener, else the one that was called. */
static __always_inline __u32 flow_owner(const struct flow *flow)
{
	__u32 opener = flow->opener & 1;

	return flow->end[opener].kind == END_POD ? opener : other(opener);
}

/*
 * Adds an entry for a flow that was judged; DROP_NONE, or why it cannot be tracked. `owner` is the
 * endpoint of flow_owner().
 */
static __always_inline int flow_insert(const struct flow_key *key, struct flow *flow, struct endpoint *owner)
{
	bool from_node = flow->end[flow->opener & 1].kind == END_NODE;

	/* The node's own sockets are exempt: probes must reach a pod that others flood. */
	if (owner->flows >= config.flow_quota && !from_node)
		return DROP_QUOTA;
	flow->seen = clock_now();
	if (!bpf_map_update_elem(&flows, key, flow, BPF_NOEXIST))
		__sync_fetch_and_add(&owner->flows, 1);
	else if (bpf_map_update_elem(&flows, key, flow, BPF_EXIST))
		return DROP_FLOWS_FULL;
	count(COUNT_FLOWS_OPENED);
	return DROP_NONE;
}

#endif
