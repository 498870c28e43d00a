/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Ageing of the flow table, run by userspace every few seconds. In the kernel, so that no entry is
 * copied out and a packet that arrives meanwhile is not overwritten.
 */
#include "lib/base.h"
#include "lib/flow.h"
#include "lib/nat.h"

struct bpf_map;

/* Seconds, about; see clock_now(). */
enum patience {
	UNANSWERED = 60,
	TCP_ESTABLISHED = 3 * 3600, /* beyond the two hours after which keepalive asks (RFC 9293) */
	TCP_HALF_CLOSED = 120,
	TCP_CLOSED = 10,
	UDP_ANSWERED = 180,
	ECHO_ANSWERED = 30,
	OTHERS = 600,
};

static __always_inline __u32 patience(__u8 protocol, __u8 state)
{
	const __u8 fins = FLOW_FIN_0 | FLOW_FIN_1;

	if ((state & (FLOW_RESET | FLOW_REVOKED)) || (state & fins) == fins)
		return state & FLOW_REVOKED ? UNANSWERED : TCP_CLOSED;
	if (!(state & FLOW_REPLIED))
		return UNANSWERED;
	switch (protocol) {
	case IPPROTO_TCP:
		return state & fins ? TCP_HALF_CLOSED : TCP_ESTABLISHED;
	case IPPROTO_UDP:
		return UDP_ANSWERED;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return ECHO_ANSWERED;
	default:
		return OTHERS;
	}
}

static long sweep_flow(struct bpf_map *map, struct flow_key *key, struct flow *flow, struct sweep *sweep)
{
	struct endpoint *owner;
	__u32 idle = sweep->now - flow->seen;
	bool purged = !is_nobody(&sweep->purge) && (same_address(&key->address[0], &sweep->purge) ||
						    same_address(&key->address[1], &sweep->purge));
	/* A packet that came after `now` was read makes `idle` negative. */
	bool aged = (__s32)idle > (__s32)patience(key->protocol, flow->state);

	if (purged || aged) {
		if (!bpf_map_delete_elem(map, key))
			sweep->removed++;
		return 0;
	}
	sweep->live++;
	owner = bpf_map_lookup_elem(&endpoints, &key->address[flow_owner(flow)]);
	if (owner)
		owner->counted++;
	return 0;
}

/*
 * Whether one that talks has this address. Whom its client believes to talk to does not count: that is a Service,
 * or a backend that refused and may be gone.
 */
static __always_inline bool names(const struct tuple *key, const struct nat *row, const struct address *address)
{
	return same_address(&key->source, address) || same_address(&row->to.destination, address) ||
	       same_address(row->reply ? &key->destination : &row->to.source, address);
}

/*
 * A connection is as old as the younger of its two rows; one without the other is none, unless its packets are
 * sent on as they come.
 */
static long sweep_nat(struct bpf_map *map, struct tuple *key, struct nat *row, struct sweep *sweep)
{
	bool alone = row->state & FLOW_SENT_ON;
	struct tuple partner = reverse(&row->to);
	struct nat *other_way = alone ? NULL : bpf_map_lookup_elem(&nat, &partner);
	__u8 state = row->state;
	bool purged = !is_nobody(&sweep->purge) && names(key, row, &sweep->purge);
	__s32 idle = sweep->now - row->seen, idle_too;

	if (other_way) {
		idle_too = sweep->now - other_way->seen;
		idle = idle_too < idle ? idle_too : idle;
		state |= other_way->state;
	}
	if (purged || (!other_way && !alone) || idle > (__s32)patience(key->protocol, state))
		bpf_map_delete_elem(map, key);
	else
		sweep->translations++;
	return 0;
}

static long sweep_affinity(struct bpf_map *map, struct affinity_key *key, struct affinity *row, __u64 *now)
{
	if (row->until < *now)
		bpf_map_delete_elem(map, key);
	return 0;
}

static long sweep_attempt(struct bpf_map *map, struct tuple *ends, struct attempt *attempt, struct sweep *sweep)
{
	if ((__s32)(sweep->now - attempt->seen) > UNANSWERED || same_address(&ends->source, &sweep->purge))
		bpf_map_delete_elem(map, ends);
	return 0;
}

/* Who has the address next has refused nobody. */
static long sweep_refusal(struct bpf_map *map, struct backend *backend, __u64 *until, struct sweep *sweep)
{
	if (*until < bpf_ktime_get_ns() || same_address(&backend->address, &sweep->purge))
		bpf_map_delete_elem(map, backend);
	return 0;
}

static long start_counting(struct bpf_map *map, struct address *address, struct endpoint *endpoint, void *unused)
{
	endpoint->counted = 0;
	return 0;
}

static long stop_counting(struct bpf_map *map, struct address *address, struct endpoint *endpoint, void *unused)
{
	endpoint->flows = endpoint->counted;
	return 0;
}

SEC("syscall")
int sweep_flows(struct sweep *argument)
{
	__u64 now = bpf_ktime_get_ns();
	struct sweep sweep = {.purge = argument->purge, .now = now >> 30};

	bpf_for_each_map_elem(&endpoints, start_counting, NULL, 0);
	bpf_for_each_map_elem(&flows, sweep_flow, &sweep, 0);
	bpf_for_each_map_elem(&nat, sweep_nat, &sweep, 0);
	bpf_for_each_map_elem(&affinities, sweep_affinity, &now, 0);
	bpf_for_each_map_elem(&attempts, sweep_attempt, &sweep, 0);
	bpf_for_each_map_elem(&refusing, sweep_refusal, &sweep, 0);
	bpf_for_each_map_elem(&endpoints, stop_counting, NULL, 0);
	argument->now = sweep.now;
	argument->live = sweep.live;
	argument->removed = sweep.removed;
	argument->translations = sweep.translations;
	return 0;
}
