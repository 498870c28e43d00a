/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A connection that a Service's backend refuses is carried to another: the reset becomes the client's SYN once
 * more, towards the next backend, and the connection is translated from then on. The client's socket goes on
 * believing that it talks to the first.
 */
#ifndef KILTER_RETRY_H
#define KILTER_RETRY_H

#include "admit.h"
#include "attempt.h"
#include "base.h"
#include "edge.h"
#include "ends.h"
#include "event.h"
#include "maps.h"
#include "nat.h"
#include "redirect.h"
#include "refusal.h"
#include "reset.h"
#include "service.h"

/* What carry() answers when the reset is its client's to see. No verdict of tcx. */
#define NOT_CARRIED 1001

/* A connection on its way to another backend: more than the stack has room for. */
struct carriage {
	struct tuple client;	/* as its client knows it */
	struct tuple refused;	/* the reset's ends */
	struct tuple back;	/* an answer's of the next backend */
	struct tuple stale;	/* an answer's of whom the client was led to before, if to anybody */
	struct backend to;
	struct packet next; /* the SYN, towards `to` */
	struct flow_key key;
	struct flow flow;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct carriage);
	__uint(max_entries, 1);
} carriages SEC(".maps");

/* Whether a packet looks like the answer of somebody who does not listen. */
static __always_inline bool looks_refused(const struct packet *packet)
{
	return packet->kind == PACKET_PLAIN && packet->header == reset_header(packet) &&
	       (packet->tcp_flags & (TCP_RST | TCP_ACK | TCP_SYN)) == (TCP_RST | TCP_ACK);
}

/* Whether a packet of `sender` may be the refusal of a connection that is not answered yet. */
static __always_inline bool may_refuse(const struct packet *packet, const struct flow *flow, __u32 sender)
{
	return (flow->state & FLOW_ATTEMPT) && sender != flow->opener && looks_refused(packet);
}

/*
 * Whether this is the backend's own answer to the SYN (RFC 9293, 3.5.2): number 0, acknowledging the SYN. The
 * resets by which policy ends a connection have the numbers of the packet that they are made of.
 */
static __always_inline bool answers_syn(struct __sk_buff *skb, const struct packet *reset,
					const struct attempt *attempt)
{
	const struct tcphdr *syn = (const void *)attempt->syn;
	struct tcphdr tcp;

	return attempt->length && !bpf_skb_load_bytes(skb, ETH_HLEN + reset->header, &tcp, sizeof(tcp)) && !tcp.seq &&
	       bpf_ntohl(tcp.ack_seq) == bpf_ntohl(syn->seq) + 1;
}

/* Finds the connection that a reset refuses, and notes who has refused it; 0 where there is none to retry. */
__global int note_refusal(struct __sk_buff *skb, const struct packet *reset, struct carriage *it)
{
	__u64 until = bpf_ktime_get_coarse_ns() + REFUSES_FOR;
	struct backend backend = {};
	struct attempt *attempt;

	if (!reset || !it)
		return 0;
	it->refused = tuple_of(reset);
	it->client = asked_by(reset);
	attempt = bpf_map_lookup_elem(&attempts, &it->client);
	if (!attempt || !answers_syn(skb, reset, attempt))
		return 0;
	attempt->tries++;
	backend.address = reset->source;
	backend.port = reset->from_port;
	bpf_map_update_elem(&refusing, &backend, &until, BPF_ANY);
	return 1;
}

/* Chooses the backend to ask next; 0 where each has been asked, or refuses. */
__global int choose_next(struct carriage *it)
{
	struct backend_key key = {};
	struct frontend frontend;
	struct frontend_row *row;
	struct attempt *attempt;
	struct backend *backend;
	int slot;

	if (!it)
		return 0;
	attempt = bpf_map_lookup_elem(&attempts, &it->client);
	if (!attempt)
		return 0;
	frontend = attempt->frontend;
	row = find_frontend(&frontend);
	if (!row || !retries(frontend.protocol, row->flags) || attempt->tries >= row->count)
		return 0;
	slot = find_willing(row, bpf_get_prandom_u32(), 1);
	if (slot < 0)
		return 0;
	key.revision = row->revision;
	key.slot = slot;
	backend = bpf_map_lookup_elem(&backends, &key);
	if (!backend)
		return 0;
	it->to = *backend;
	return 1;
}

/* The packet that the reset is to become. */
static __always_inline void draw_next(struct carriage *it, const struct packet *reset, const struct tuple *to)
{
	it->next = *reset;
	it->next.source = it->next.from = to->source;
	it->next.destination = to->destination;
	it->next.from_port = to->source_port;
	it->next.to_port = to->destination_port;
	it->next.tcp_flags = TCP_SYN;
	it->next.ttl = 64;
	it->next.translated = 1;
}

/* Enters the translation to the next backend; 0 where that cannot be. The former answers' stays so far. */
__global int translate_next(const struct packet *reset, struct carriage *it)
{
	struct nat_draft *draft;
	struct nat *before;
	__u32 zero = 0;

	draft = bpf_map_lookup_elem(&nat_drafts, &zero);
	if (!reset || !it || !draft)
		return 0;
	before = bpf_map_lookup_elem(&nat, &it->client);
	it->stale = before ? reverse(&before->to) : it->refused;
	__builtin_memset(&draft->forward, 0, sizeof(draft->forward));
	draft->forward.to = it->client;
	draft->forward.to.destination = it->to.address;
	draft->forward.to.destination_port = it->to.port;
	draft->forward.seen = clock_now();
	if (!is_own_pods(&it->client.source)) {
		draft->forward.state = FLOW_ATTEMPT;
		if (!is_own_pods(&it->to.address) && !own_address(&it->client.source, &draft->forward.to.source))
			return 0;
	}
	if (nat_enter(&it->client, draft))
		return 0;
	it->back = draft->back;
	draw_next(it, reset, &draft->forward.to);
	return 1;
}

/* The same of a client outside; a backend elsewhere is judged there. */
static __always_inline int admit_outside(struct __sk_buff *skb, struct carriage *it)
{
	struct endpoint *server;
	__u32 sender;

	__builtin_memset(&it->flow, 0, sizeof(it->flow));
	if (!is_own_pods(&it->to.address))
		return 1;
	server = bpf_map_lookup_elem(&endpoints, &it->to.address);
	if (!server)
		return 0;
	sender = flow_key(&it->next, &it->key) & 1;
	end_is_pod(&it->flow.end[other(sender)], server);
	it->flow.end[sender].kind = END_REMOTE;
	/* What nodes themselves send comes, and goes, past the tunnel. */
	if (!config.overlay || in_cluster(&it->client.source))
		it->flow.end[sender].via = node_of(&it->client.source);
	it->flow.opener = sender;
	it->flow.state = FLOW_TRANSLATED | FLOW_ATTEMPT;
	return !admit(skb, &it->next, &it->key, &it->flow, server);
}

/* Judges the client's way to the next backend, and enters its flow; 0 where that cannot be. */
__global int admit_next(struct __sk_buff *skb, struct carriage *it)
{
	struct endpoint *client;
	__u32 sender;

	if (!it)
		return 0;
	if (!is_own_pods(&it->client.source))
		return admit_outside(skb, it);
	client = bpf_map_lookup_elem(&endpoints, &it->client.source);
	if (!client)
		return 0;
	sender = flow_key(&it->next, &it->key) & 1;
	__builtin_memset(&it->flow, 0, sizeof(it->flow));
	end_is_pod(&it->flow.end[sender], client);
	/* Past the stack there is nobody who would translate the answers. */
	if (end_of_destination(&it->flow.end[other(sender)], &it->to.address) ||
	    (it->flow.end[other(sender)].kind != END_POD && it->flow.end[other(sender)].kind != END_REMOTE))
		return 0;
	it->flow.opener = sender;
	it->flow.state = FLOW_TRANSLATED | FLOW_ATTEMPT;
	return !admit(skb, &it->next, &it->key, &it->flow, client);
}

/* Forgets the way to the backend that refused, or the one to the next, if that is not to be. */
__global int forget_way(struct carriage *it, int refused)
{
	struct flow_key former;
	struct endpoint *client;

	if (!it)
		return 0;
	if (!refused) {
		bpf_map_delete_elem(&nat, &it->client);
		return bpf_map_delete_elem(&nat, &it->back);
	}
	bpf_map_delete_elem(&nat, &it->stale);
	flow_key_of(&it->refused, &former);
	client = bpf_map_lookup_elem(&endpoints, &it->client.source);
	if (!bpf_map_delete_elem(&flows, &former) && client)
		__sync_fetch_and_add(&client->flows, -1);
	return 0;
}

/* The transport header of the SYN, for the ends that it has now. */
static __always_inline int store_syn(struct __sk_buff *skb, const struct packet *next, struct attempt *attempt,
				     __u64 length, bool partial)
{
	struct tcphdr *syn = (void *)attempt->syn;

	syn->source = next->from_port;
	syn->dest = next->to_port;
	syn->check = 0;
	syn->check = partial ? fold(pseudo_sum(&next->source, IPPROTO_TCP, length)) :
			       checksum(&next->source, IPPROTO_TCP, attempt->syn, length);
	return bpf_skb_store_bytes(skb, ETH_HLEN + next->header, attempt->syn, length, BPF_F_RECOMPUTE_CSUM);
}

/* Makes the packet, which is a reset, the client's SYN, towards the next backend. */
__global int write_syn(struct __sk_buff *skb, const struct carriage *it)
{
	const struct packet *next;
	struct attempt *attempt;
	__u64 length;
	bool partial;

	if (!it)
		return -1;
	next = &it->next;
	attempt = bpf_map_lookup_elem(&attempts, &it->client);
	if (!attempt)
		return -1;
	length = attempt->length;
	if (length < sizeof(struct tcphdr))
		return -1;
	/* The verifier does not follow what the compiler makes of both comparisons. */
	barrier_var(length);
	if (length > SYN_MOST)
		return -1;
	partial = checksum_is_partial(skb, next);
	if (bpf_skb_change_tail(skb, ETH_HLEN + next->header + length, 0) ||
	    store_header(skb, next->version, &next->source, &next->destination, length))
		return -1;
	return store_syn(skb, next, attempt, length, partial);
}

/* Counts and tells who was refused by whom, and who is asked now. */
__global int tell_retried(struct __sk_buff *skb, const struct carriage *it)
{
	struct retried *retried;

	if (!it)
		return 0;
	count(COUNT_RETRIED);
	retried = bpf_ringbuf_reserve(&events, sizeof(*retried), 0);
	if (!retried) {
		count(COUNT_EVENTS_LOST);
		return 0;
	}
	__builtin_memset(retried, 0, sizeof(*retried));
	retried->event.at = bpf_ktime_get_ns();
	retried->event.source = it->client.source;
	retried->event.source_port = it->client.source_port;
	retried->event.destination = it->refused.source;
	retried->event.destination_port = it->refused.source_port;
	retried->event.ifindex = skb->ifindex;
	retried->event.kind = EVENT_RETRIED;
	retried->event.protocol = IPPROTO_TCP;
	retried->to = it->to;
	bpf_ringbuf_submit(retried, 0);
	return 0;
}

/* Carries a connection that this reset refuses to another backend: the packet's verdict, or NOT_CARRIED. */
__global int carry(struct __sk_buff *skb, const struct packet *reset)
{
	struct carriage *it;
	__u32 zero = 0;

	it = bpf_map_lookup_elem(&carriages, &zero);
	if (!reset || !it || !note_refusal(skb, reset, it) || !choose_next(it) || !translate_next(reset, it))
		return NOT_CARRIED;
	if (!admit_next(skb, it)) {
		forget_way(it, false);
		return NOT_CARRIED;
	}
	forget_way(it, true);
	tell_retried(skb, it);
	if (write_syn(skb, it))
		return DROP;
	/* Without a flow: from outside, and on to another node. */
	if (!it->flow.state)
		return send_on(skb, &it->next);
	return deliver_slowly(skb, &it->next, &it->flow, it->flow.opener);
}

/* Whether a pod's packet is of a connection that was carried to another backend than it knows. */
static __always_inline bool is_carried(const struct packet *packet)
{
	struct tuple key = tuple_of(packet);

	return packet->protocol == IPPROTO_TCP && bpf_map_lookup_elem(&nat, &key);
}

#endif
