/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Services at the node's edge: packets from beyond the uplink to a node port, or to an address from
 * outside, go on to a backend; what backends answer goes back as if the Service had.
 */
#ifndef KILTER_EDGE_H
#define KILTER_EDGE_H

#include "admit.h"
#include "announce.h"
#include "base.h"
#include "ends.h"
#include "event.h"
#include "maps.h"
#include "nat.h"
#include "packet.h"
#include "redirect.h"
#include "unreachable.h"

/* What from_edge() answers when the packet is now one to a pod of this node. No verdict of tcx. */
#define TO_POD 1000

static __noinline struct frontend_row *find_edge(const struct packet *packet)
{
	struct frontend frontend = {
		.address = packet->destination,
		.port = packet->to_port,
		.protocol = packet->protocol,
		.scope = SCOPE_OUTSIDE,
	};
	struct frontend_row *row = bpf_map_lookup_elem(&frontends, &frontend);

	if (row || !is_own_node(&packet->destination))
		return row;
	frontend.address = any_address(&packet->destination);
	return bpf_map_lookup_elem(&frontends, &frontend);
}

/* The node's own address of the family of `like`; false when it has none. */
static __always_inline bool own_address(const struct address *like, struct address *own)
{
	for (int i = 0; i < BLOCKS; i++) {
		if (i >= config.node_count)
			break;
		own->half[0] = config.node[i].half[0];
		own->half[1] = config.node[i].half[1];
		if (is_mapped(own) == is_mapped(like))
			return true;
	}
	return false;
}

/* How many slots are looked at for a backend that packets can be sent on to. */
#define SLOT_TRIES 8

/* A socket of this node would answer past every hook: such a backend cannot be one here. */
static __always_inline struct backend *choose_edge(const struct frontend_row *row)
{
	struct backend_key key = {.revision = row->revision};
	__u32 slot = bpf_get_prandom_u32();
	__u32 count = row->count;
	struct backend *backend;

	for (int i = 0; i < SLOT_TRIES; i++) {
		if (!count)
			break;
		key.slot = (slot + i) % count;
		backend = bpf_map_lookup_elem(&backends, &key);
		if (backend && !is_own_node(&backend->address))
			return backend;
	}
	return NULL;
}

/* Begins a translated connection, which then has its rows; DROP_NONE, or why not. */
static __noinline int open_edge(const struct frontend_row *row, const struct tuple *client)
{
	struct backend *backend = choose_edge(row);
	__u32 zero = 0;
	struct nat_draft *draft = bpf_map_lookup_elem(&nat_drafts, &zero);

	if (!backend || !draft)
		return DROP_NO_BACKEND;
	__builtin_memset(&draft->forward, 0, sizeof(draft->forward));
	draft->forward.to.source = client->source;
	draft->forward.to.destination = backend->address;
	draft->forward.to.destination_port = backend->port;
	draft->forward.to.protocol = client->protocol;
	draft->forward.revision = row->revision;
	draft->forward.seen = clock_now();
	/* What a pod of this node answers comes by here anyway; what others answer must be sent here. */
	if (!is_own_pods(&backend->address) && !own_address(&client->source, &draft->forward.to.source))
		return DROP_NO_BACKEND;
	return nat_enter(client, draft);
}

/* Whether a backend of a datagram's connection still serves, under whatever revision. */
static __noinline int still_serves(const struct frontend_row *row, const struct tuple *to)
{
	struct backend_key key = {.revision = row->revision};
	struct backend *backend;

	for (__u32 slot = 0; slot < 256; slot++) {
		if (slot >= row->count)
			break;
		key.slot = slot;
		backend = bpf_map_lookup_elem(&backends, &key);
		if (backend && same_address(&backend->address, &to->destination) &&
		    backend->port == to->destination_port)
			return 1;
	}
	return 0;
}

/* A connection of TCP that has ended; the next SYN with its ends is another's. */
static __noinline int has_ended(const struct nat *row)
{
	struct tuple partner = reverse(&row->to);
	struct nat *other_way = bpf_map_lookup_elem(&nat, &partner);
	__u8 state = row->state | (other_way ? other_way->state : FLOW_RESET);

	return (state & FLOW_RESET) || (state & (FLOW_FIN_0 | FLOW_FIN_1)) == (FLOW_FIN_0 | FLOW_FIN_1);
}

/* Whether a known connection is to be begun anew. Datagrams do not stay with a backend that is gone. */
static __always_inline bool is_over(const struct packet *packet, struct nat *row)
{
	struct frontend_row *frontend;

	if (row->reply || packet->kind == PACKET_ICMP_ERROR)
		return false;
	if (packet->protocol == IPPROTO_TCP)
		return opens(packet) && has_ended(row);
	frontend = find_edge(packet);
	if (!frontend)
		return true;
	if (frontend->revision == row->revision)
		return false;
	if (!still_serves(frontend, &row->to))
		return true;
	row->revision = frontend->revision;
	return false;
}

/* 0, or the MTU of the next link when the packet does not fit it. */
static __always_inline __u32 narrow(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 mtu = 0;

	if (skb->len <= 576 || bpf_check_mtu(skb, ifindex, &mtu, 0, BPF_MTU_CHK_SEGS) == BPF_MTU_CHK_RET_SUCCESS)
		return 0;
	return mtu;
}

/* To a pod of this node: the rest is as for any packet to it. */
static __always_inline int edge_to_pod(struct __sk_buff *skb, struct packet *packet, const struct nat *row)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &row->to.destination);
	__u32 mtu = endpoint ? narrow(skb, endpoint->ifindex) : 0;

	if (mtu)
		return complain(skb, packet, TOO_BIG, mtu);
	return rewrite(skb, packet, row) ? DROP : TO_POD;
}

static __noinline int send_on(struct __sk_buff *skb, const struct packet *packet)
{
	struct flow_end end = {.kind = END_REMOTE, .via = node_of(&packet->destination)};

	return to_node_of(skb, packet, &end);
}

/* To another node, or back to a client. The stack cannot help: it would not know the packet. */
static __always_inline int edge_to_uplink(struct __sk_buff *skb, struct packet *packet, const struct nat *row)
{
	__u32 mtu = narrow(skb, config.uplink);

	if (packet->ttl <= 1)
		return complain(skb, packet, TOO_OLD, 0);
	if (mtu)
		return complain(skb, packet, TOO_BIG, mtu);
	return rewrite(skb, packet, row) ? DROP : send_on(skb, packet);
}

static __noinline int pass_edge(struct __sk_buff *skb, struct packet *packet, const struct nat *row)
{
	return is_own_pods(&row->to.destination) ? edge_to_pod(skb, packet, row) :
						   edge_to_uplink(skb, packet, row);
}

/* Begins a connection for a packet that has none. Where it cannot, `verdict` is the packet's. */
static __always_inline bool begin_edge(struct __sk_buff *skb, struct packet *packet, const struct tuple *client,
				       int *verdict)
{
	struct frontend_row *row = find_edge(packet);
	int reason;

	*verdict = PASS_ON;
	if (!row) {
		*verdict = refuse_at_announced(skb, packet);
		return false;
	}
	/* What cannot open a connection is the stack's to answer. */
	if (may_begin(packet))
		return false;
	reason = open_edge(row, client);
	if (!reason)
		return true;
	*verdict = drop(skb, packet, reason, INGRESS);
	if (reason == DROP_NO_BACKEND && !(row->flags & FRONTEND_SILENT))
		*verdict = refuse_packet(skb, packet);
	return false;
}

/* What a packet from the uplink becomes, at once or as it begins a connection; or nothing, and its verdict. */
static __noinline struct nat *find_nat(struct __sk_buff *skb, struct packet *packet, int *verdict)
{
	__u16 port = bpf_ntohs(packet->to_port);
	struct tuple key = tuple_of(packet);
	struct nat *row;

	*verdict = PASS_ON;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP) {
		*verdict = refuse_at_announced(skb, packet);
		return NULL;
	}
	if (port >= config.masquerade_first && port <= config.masquerade_last && is_own_node(&packet->destination))
		return NULL;
	row = bpf_map_lookup_elem(&nat, &key);
	if (row && !is_over(packet, row))
		return row;
	if (row)
		nat_forget(&key, row);
	if (!begin_edge(skb, packet, &key, verdict))
		return NULL;
	*verdict = DROP;
	return bpf_map_lookup_elem(&nat, &key);
}

/*
 * A packet from the uplink that is not to the pod network. PASS_ON: it is the node's own. TO_POD: it was
 * translated. Else its verdict.
 */
static __always_inline int from_edge(struct __sk_buff *skb, struct packet *packet)
{
	int verdict;
	struct nat *row = find_nat(skb, packet, &verdict);

	if (!row)
		return verdict;
	nat_touch(row, packet);
	return pass_edge(skb, packet, row);
}

/* A pod's packet of a translated connection, which its flow allows: what the client sees of it. */
static __noinline int deliver_translated(struct __sk_buff *skb, struct packet *packet,
					 const struct flow *flow, __u32 sender)
{
	struct tuple key = tuple_of(packet);
	struct nat *row = bpf_map_lookup_elem(&nat, &key);

	/* Its flow has outlived the translation. */
	if (!row)
		return drop_quietly(DROP_NO_FLOW);
	/* What the stack must answer, it must see as the pod sent it. */
	if (packet->ttl <= 1 || narrow(skb, config.uplink))
		return PASS;
	nat_touch(row, packet);
	return rewrite(skb, packet, row) ? DROP : deliver_slowly(skb, packet, flow, sender);
}

#endif
