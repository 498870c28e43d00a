/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Backends that have answered a new connection with a reset: for a while, new ones go to others. */
#ifndef KILTER_REFUSAL_H
#define KILTER_REFUSAL_H

#include "base.h"
#include "maps.h"

/* As long as the kubelet's probes are apart by default; userspace asks again earlier when endpoints change. */
#define REFUSES_FOR (10ULL * 1000000000)

/* Whether refused connections to this frontend are carried to other backends. */
static __always_inline bool retries(__u8 protocol, __u32 flags)
{
	return protocol == IPPROTO_TCP &&
	       ((flags & FRONTEND_RETRIES) || (config.retry_refused && !(flags & FRONTEND_GIVES_UP)));
}

static __always_inline bool is_refusing(const struct backend *backend)
{
	__u64 *until = bpf_map_lookup_elem(&refusing, backend);

	return until && *until > bpf_ktime_get_coarse_ns();
}

static __always_inline bool is_passed_over(__u8 protocol, const struct frontend_row *row,
					   const struct backend *backend)
{
	return retries(protocol, row->flags) && is_refusing(backend);
}

struct willing {
	struct backend_key key;
	__u32 first;
	__u32 count;
	__u32 beyond; /* not at the node's own addresses */
	int slot;
};

static long is_willing(__u32 i, struct willing *search)
{
	struct backend *backend;

	search->key.slot = (search->first + i) % search->count;
	backend = bpf_map_lookup_elem(&backends, &search->key);
	if (!backend || is_refusing(backend) || (search->beyond && is_own_node(&backend->address)))
		return 0;
	search->slot = search->key.slot;
	return 1;
}

/*
 * The next slot, from `first` on, whose backend does not refuse; -1 where all do: then all are asked again.
 * `beyond`: not one that is a socket of this node.
 */
__global int find_willing(const struct frontend_row *row, __u32 first, __u32 beyond)
{
	struct willing search = {.first = first, .beyond = beyond, .slot = -1};

	if (!row || !row->count)
		return -1;
	search.key.revision = row->revision;
	search.count = row->count;
	bpf_loop(search.count, is_willing, &search, 0);
	return search.slot;
}

#endif
