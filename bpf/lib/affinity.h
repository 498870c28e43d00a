/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Clients that come back to the backend that they had (sessionAffinity: ClientIP). A client outside is its
 * address, one of this node is its network namespace: a socket has no source address yet when it is asked.
 */
#ifndef KILTER_AFFINITY_H
#define KILTER_AFFINITY_H

#include "base.h"
#include "maps.h"
#include "refusal.h"

struct search {
	struct backend_key key;
	const struct backend *wanted;
	__u32 found;
};

static long is_wanted(__u32 slot, struct search *search)
{
	const struct backend *backend;

	search->key.slot = slot;
	backend = bpf_map_lookup_elem(&backends, &search->key);
	if (!backend || backend->port != search->wanted->port ||
	    !same_address(&backend->address, &search->wanted->address))
		return 0;
	search->found = 1;
	return 1;
}

/* Whether a backend serves still, under whatever revision it was chosen. */
static __noinline int serves(const struct frontend_row *row, const struct backend *backend)
{
	struct search search = {.key = {.revision = row->revision}, .wanted = backend};

	bpf_loop(row->count, is_wanted, &search, 0);
	return search.found;
}

static __always_inline __u64 nanoseconds(__u32 seconds)
{
	return (__u64)seconds * 1000000000;
}

/* The backend that a client had, if it serves still and not too much time has passed; counted from now on. */
static __noinline int stay(const struct frontend_row *row, const struct affinity_key *key, struct backend *backend)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct affinity *had;

	if (!row->affinity)
		return 0;
	had = bpf_map_lookup_elem(&affinities, key);
	if (!had || had->until < now || is_passed_over(key->frontend.protocol, row, &had->backend) ||
	    !serves(row, &had->backend))
		return 0;
	had->until = now + nanoseconds(row->affinity);
	*backend = had->backend;
	return 1;
}

/* A table that is full of younger ones forgets who comes now; only this client may then meet another backend. */
static __noinline int remember(const struct frontend_row *row, const struct affinity_key *key,
			       const struct backend *backend)
{
	struct affinity fresh = {.backend = *backend};

	if (!row->affinity)
		return 0;
	fresh.until = bpf_ktime_get_coarse_ns() + nanoseconds(row->affinity);
	return bpf_map_update_elem(&affinities, key, &fresh, BPF_ANY);
}

#endif
