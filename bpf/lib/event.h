/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Counting and telling. Nothing here is on the path of an established flow. */
#ifndef KILTER_EVENT_H
#define KILTER_EVENT_H

#include "base.h"
#include "maps.h"
#include "packet.h"

static __always_inline void count(enum counter counter)
{
	__u32 key = counter;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		*value += 1;
}

static __always_inline void count_drop(enum drop_reason reason)
{
	__u32 key = reason;
	__u64 *value = bpf_map_lookup_elem(&drops, &key);

	if (value)
		*value += 1;
}

struct report {
	__u32 rule;
	__u8 kind;
	__u8 reason;
	__u8 direction;
};

/* A full ring costs one refused reservation: drops stay cheap when nobody reads. */
__global int tell(struct __sk_buff *skb, const struct packet *packet, const struct report *report)
{
	struct event *event;

	if (!packet || !report)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(COUNT_EVENTS_LOST);
		return 0;
	}
	event->at = bpf_ktime_get_ns();
	event->source = packet->source;
	event->destination = packet->destination;
	event->source_port = packet->echo ? 0 : packet->from_port;
	event->destination_port = packet->echo ? 0 : packet->to_port;
	event->rule = report->rule;
	event->ifindex = skb->ifindex;
	event->kind = report->kind;
	event->reason = report->reason;
	event->direction = report->direction;
	event->protocol = packet->kind == PACKET_ICMP_ERROR ? icmp_of(packet) : packet->protocol;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* Frames that are not worth an event each: not IP, or without a connection to blame. */
static __always_inline int drop_quietly(enum drop_reason reason)
{
	count_drop(reason);
	return DROP;
}

static __always_inline int drop_by(struct __sk_buff *skb, const struct packet *packet, enum drop_reason reason,
				   enum direction direction, __u32 rule)
{
	struct report report = {
		.kind = EVENT_DROP,
		.reason = reason,
		.direction = direction,
		.rule = rule,
	};

	count_drop(reason);
	tell(skb, packet, &report);
	return DROP;
}

static __always_inline int drop(struct __sk_buff *skb, const struct packet *packet, enum drop_reason reason,
				enum direction direction)
{
	/* Of a packet that cannot be parsed there is nothing to tell. */
	if (reason == DROP_MALFORMED)
		return drop_quietly(reason);
	return drop_by(skb, packet, reason, direction, 0);
}

#endif
