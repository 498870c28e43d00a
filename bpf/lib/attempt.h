/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections to Services from their SYN to the first answer. */
#ifndef KILTER_ATTEMPT_H
#define KILTER_ATTEMPT_H

#include "base.h"
#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "packet.h"

/* A client outside asks for a Service; whether its connection can be kept in mind. */
static __noinline int begin_attempt(const struct tuple *client)
{
	struct attempt attempt = {
		.frontend = {
			.address = client->destination,
			.port = client->destination_port,
			.protocol = client->protocol,
			.scope = SCOPE_OUTSIDE,
		},
		.seen = clock_now(),
	};

	return !bpf_map_update_elem(&attempts, client, &attempt, BPF_ANY);
}

/*
 * Keeps the SYN of a connection to a Service. The state that its flow begins with: FLOW_ATTEMPT, or
 * FLOW_TRANSLATED when it has been carried to another backend already; 0 where nothing is to be retried.
 */
__global int keep_syn(struct __sk_buff *skb, const struct packet *packet)
{
	struct attempt *attempt;
	struct tuple key;
	__u64 length;
	__u32 at;
	__u8 offset;

	if (!packet || packet->kind != PACKET_PLAIN)
		return 0;
	key = tuple_of(packet);
	attempt = bpf_map_lookup_elem(&attempts, &key);
	if (!attempt)
		return 0;
	if (attempt->tries)
		return FLOW_TRANSLATED;
	at = ETH_HLEN + packet->header;
	if (bpf_skb_load_bytes(skb, at + 12, &offset, 1))
		return 0;
	length = (offset >> 4) * 4;
	if (length < sizeof(struct tcphdr))
		return 0;
	/* The verifier does not follow what the compiler makes of both comparisons. */
	barrier_var(length);
	if (length > SYN_MOST || bpf_skb_load_bytes(skb, at, attempt->syn, length))
		return 0;
	attempt->length = length;
	attempt->seen = clock_now();
	return FLOW_ATTEMPT;
}

/* What its client calls the connection that this answer belongs to. */
static __always_inline struct tuple asked_by(const struct packet *answer)
{
	struct tuple back = tuple_of(answer);
	struct nat *row = bpf_map_lookup_elem(&nat, &back);

	return reverse(row ? &row->to : &back);
}

/* The same where the answer comes from another node and there is no flow, but a row of its translation. */
__global int end_far_attempt(const struct packet *answer, struct nat *row)
{
	struct tuple client;

	if (!answer || !row || answer->kind != PACKET_PLAIN)
		return 0;
	client = reverse(&row->to);
	row->state &= ~FLOW_ATTEMPT;
	return bpf_map_delete_elem(&attempts, &client);
}

/* Whoever was called has answered, one way or the other. */
__global int end_attempt(const struct packet *answer, struct flow *flow)
{
	struct tuple key;

	if (!answer || !flow || answer->kind != PACKET_PLAIN)
		return 0;
	key = asked_by(answer);
	flow->state &= ~FLOW_ATTEMPT;
	return bpf_map_delete_elem(&attempts, &key);
}

#endif
