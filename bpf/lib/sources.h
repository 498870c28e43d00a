/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Whom a load balancer's address serves (loadBalancerSourceRanges). */
#ifndef KILTER_SOURCES_H
#define KILTER_SOURCES_H

#include "base.h"
#include "event.h"
#include "maps.h"

/* Whether a client's address is within the ranges of a frontend that has some. */
static __noinline int is_admitted(const struct frontend_row *row, const struct address *client)
{
	struct source_key key = {
		.prefixlen = 32 + 8 * sizeof(*client),
		.revision = bpf_htonl(row->revision),
	};

	if (!(row->flags & FRONTEND_RESTRICTED))
		return 1;
	__builtin_memcpy(key.address, client, sizeof(*client));
	return bpf_map_lookup_elem(&sources, &key) != NULL;
}

/* Counts and tells that a socket of this node was refused; no packet was made. */
static __noinline int tell_unadmitted(const struct frontend *frontend, const struct address *client)
{
	struct event *event;

	count_drop(DROP_SOURCE_RANGE);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(COUNT_EVENTS_LOST);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->at = bpf_ktime_get_ns();
	event->source = *client;
	event->destination = frontend->address;
	event->destination_port = frontend->port;
	event->kind = EVENT_DROP;
	event->reason = DROP_SOURCE_RANGE;
	event->direction = EGRESS;
	event->protocol = frontend->protocol;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/*
 * Whether a socket of this namespace may use a frontend: by the address that it will have, whatever that is
 * once it is connected. Whose namespace it is must be known.
 */
static __noinline int may_use(const struct frontend *frontend, const struct frontend_row *row, __u64 namespace)
{
	struct address client = {};
	struct namespace *owner;

	if (!(row->flags & FRONTEND_RESTRICTED))
		return 1;
	owner = bpf_map_lookup_elem(&namespaces, &namespace);
	if (owner)
		client = is_mapped(&frontend->address) ? owner->own[0] : owner->own[1];
	if (owner && is_admitted(row, &client))
		return 1;
	tell_unadmitted(frontend, &client);
	return 0;
}

#endif
