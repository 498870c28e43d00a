/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Services at the node's edge: packets from beyond this node to a node port, or to an address from
 * outside, go on to a backend; what backends answer goes back as if the Service had.
 */
#ifndef KILTER_EDGE_H
#define KILTER_EDGE_H

#include "admit.h"
#include "affinity.h"
#include "announce.h"
#include "attempt.h"
#include "base.h"
#include "ends.h"
#include "event.h"
#include "maps.h"
#include "nat.h"
#include "packet.h"
#include "redirect.h"
#include "sources.h"
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
	bool own;

	if (row)
		return row;
	own = is_own_node(&packet->destination);
	if (!own && (config.overlay || !is_other_node(&packet->destination)))
		return NULL;
	frontend.address = any_address(&packet->destination);
	row = bpf_map_lookup_elem(&frontends, &frontend);
	/* A port of another node, which has sent the packet on as it came. */
	return row && (own || (row->flags & FRONTEND_DSR)) ? row : NULL;
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

static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x85ebca6b;
	return hash ^ hash >> 13;
}

/* Of a client, the same on every node; of one that is to stay with its backend, whatever its port. */
static __noinline __u32 hash_client(const struct tuple *client, __u32 stays)
{
	const __u32 *source = (const __u32 *)&client->source, *destination = (const __u32 *)&client->destination;
	__u32 hash = client->protocol;

	for (int i = 0; i < 4; i++)
		hash = mix(hash, source[i]);
	if (stays)
		return mix(hash, 0);
	for (int i = 0; i < 4; i++)
		hash = mix(hash, destination[i]);
	return mix(mix(hash, client->source_port), client->destination_port);
}

/* The slot for a client of this hash. */
static __always_inline __u32 slot_of_client(const struct frontend_row *row, __u32 hash)
{
	__u32 places = row->flags >> FRONTEND_PLACES_SHIFT, count = row->count, place;
	struct chunk_key key = {.revision = row->revision};
	struct chunk *chunk;

	if (places) {
		place = hash % places;
		key.chunk = place / CHUNK;
		chunk = bpf_map_lookup_elem(&chunks, &key);
		if (chunk)
			return chunk->slot[place % CHUNK];
	}
	return count ? hash % count : 0;
}

/*
 * A socket of this node would answer past every hook: such a backend cannot be one here. One that refuses is taken
 * where no other is found.
 */
static __noinline struct backend *choose_sendable(const struct frontend_row *row, __u32 hash, __u32 protocol)
{
	struct backend_key key = {.revision = row->revision};
	struct backend *backend, *refuses = NULL;

	for (int i = 0; i < SLOT_TRIES; i++) {
		key.slot = slot_of_client(row, hash + i);
		backend = bpf_map_lookup_elem(&backends, &key);
		if (!backend || is_own_node(&backend->address))
			continue;
		if (!is_passed_over(protocol, row, backend))
			return backend;
		refuses = backend;
	}
	return refuses;
}

/* The backend that this client had, or any; 0 where there is none. */
static __noinline int choose_edge(const struct frontend_row *row, const struct tuple *client, struct backend *backend)
{
	struct affinity_key key = {
		.frontend = {
			.address = client->destination,
			.port = client->destination_port,
			.protocol = client->protocol,
			.scope = SCOPE_OUTSIDE,
		},
		.client = client->source,
	};
	struct backend *any;

	if (stay(row, &key, backend))
		return 1;
	any = choose_sendable(row, hash_client(client, row->affinity), client->protocol);
	if (!any)
		return 0;
	*backend = *any;
	remember(row, &key, backend);
	return 1;
}

/*
 * Whether a client's packets go on to this backend's node as they came (direct server return). It must be a pod's
 * node, which translates as for clients of its own edge. Of a client that is a node or a pod, it might be the very
 * node, which takes nothing from beyond under its own addresses.
 */
static __always_inline bool is_sent_on(const struct frontend_row *row, const struct tuple *client,
				       const struct backend *backend)
{
	return !config.overlay && (row->flags & FRONTEND_DSR) && in_cluster(&backend->address) &&
	       !is_own_pods(&backend->address) && node_of(&backend->address) && !node_of(&client->source);
}

/* The same of the backend that a client would be led to. */
__global int leads_on(const struct frontend_row *row, const struct tuple *client)
{
	struct backend backend = {};

	return !config.overlay && row && client && (row->flags & FRONTEND_DSR) && choose_edge(row, client, &backend) &&
	       is_sent_on(row, client, &backend);
}

/* Begins a connection whose packets are sent on: what becomes of the tables, it stays with its backend. */
static __always_inline int send_on_from_now(struct __sk_buff *skb, const struct tuple *client, struct nat *row)
{
	row->to.source_port = client->source_port;
	row->state = FLOW_SENT_ON;
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_source), row->sender, sizeof(row->sender)))
		return DROP_MALFORMED;
	return bpf_map_update_elem(&nat, client, row, BPF_ANY) ? DROP_FLOWS_FULL : DROP_NONE;
}

/* Begins a translated connection, which then has its rows; DROP_NONE, or why not. */
__global int open_edge(struct __sk_buff *skb, const struct frontend_row *row, const struct tuple *client)
{
	struct backend backend = {};
	__u32 zero = 0;
	struct nat_draft *draft = bpf_map_lookup_elem(&nat_drafts, &zero);

	if (!row || !client)
		return DROP_NO_BACKEND;
	if (!draft || !choose_edge(row, client, &backend))
		return DROP_NO_BACKEND;
	__builtin_memset(&draft->forward, 0, sizeof(draft->forward));
	draft->forward.to.source = client->source;
	draft->forward.to.destination = backend.address;
	draft->forward.to.destination_port = backend.port;
	draft->forward.to.protocol = client->protocol;
	draft->forward.revision = row->revision;
	draft->forward.seen = clock_now();
	if (is_sent_on(row, client, &backend))
		return send_on_from_now(skb, client, &draft->forward);
	if (retries(client->protocol, row->flags) && begin_attempt(client))
		draft->forward.state = FLOW_ATTEMPT;
	/* What a pod of this node answers comes by here anyway; what others answer must be sent here. */
	if (!is_own_pods(&backend.address) && !own_address(&client->source, &draft->forward.to.source))
		return DROP_NO_BACKEND;
	return nat_enter(client, draft);
}

/* Whether a backend of a datagram's connection still serves, under whatever revision. */
static __always_inline int still_serves(const struct frontend_row *row, const struct tuple *to)
{
	struct backend backend = {.address = to->destination, .port = to->destination_port};

	return serves(row, &backend);
}

/* A connection of TCP that has ended; the next SYN with its ends is another's. */
static __noinline int has_ended(const struct nat *row)
{
	struct tuple partner = reverse(&row->to);
	struct nat *other_way = bpf_map_lookup_elem(&nat, &partner);
	__u8 state = row->state | (other_way ? other_way->state : FLOW_RESET);

	if (row->state & FLOW_SENT_ON)
		return row->state & (FLOW_RESET | FLOW_FIN_0);
	return (state & FLOW_RESET) || (state & (FLOW_FIN_0 | FLOW_FIN_1)) == (FLOW_FIN_0 | FLOW_FIN_1);
}

/*
 * Whether somebody else on the link sends a packet of a connection that is sent on: its backend's node does when it
 * knows no such backend any more. A router that takes another's place may; the tables then say the same as before.
 */
static __always_inline bool has_come_back(struct __sk_buff *skb, const struct nat *row)
{
	struct ethhdr *ethernet = (void *)(long)skb->data;

	return (row->state & FLOW_SENT_ON) && (void *)(ethernet + 1) <= (void *)(long)skb->data_end &&
	       !same_mac(ethernet->h_source, row->sender);
}

/*
 * Whether a known connection is to be begun anew. Datagrams do not stay with a backend that is gone; nor does a SYN
 * that is sent on, since nobody here would see that it is not answered.
 */
__global int is_over(struct __sk_buff *skb, const struct packet *packet, struct nat *row)
{
	struct frontend_row *frontend;

	if (!packet || !row || row->reply || packet->kind == PACKET_ICMP_ERROR)
		return false;
	if (has_come_back(skb, row))
		return true;
	if (packet->protocol == IPPROTO_TCP) {
		if (!opens(packet) || has_ended(row))
			return opens(packet);
		if (!(row->state & FLOW_SENT_ON))
			return false;
	}
	frontend = find_edge(packet);
	if (!frontend || ((row->state & FLOW_SENT_ON) && !(frontend->flags & FRONTEND_DSR)))
		return true;
	if (frontend->revision == row->revision)
		return false;
	if (!still_serves(frontend, &row->to))
		return true;
	row->revision = frontend->revision;
	return false;
}

/* The link that packets to an end leave by: to a pod, or beyond this node. */
static __always_inline __u32 link_to(const struct flow_end *end)
{
	if (end->kind == END_POD)
		return end->via;
	return is_tunnelled(end) ? config.overlay : config.uplink;
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
	struct flow_end end = remote_end(&packet->destination);

	return to_node_of(skb, packet, &end);
}

/* To the backend's node as it came, which finds the same backend by itself. */
static __noinline int send_unchanged(struct __sk_buff *skb, const struct packet *packet, const struct flow_end *end)
{
	struct node *node = end->via ? bpf_map_lookup_elem(&nodes, &end->via) : NULL;

	/* The kernel's routes for its destination lead to the Service again. */
	if (!node || is_nobody(&node->next_hop))
		return drop_quietly(DROP_NO_ROUTE);
	if (packet->kind == PACKET_FIRST_FRAGMENT)
		remember_fragment(packet);
	return take_hop(skb, packet) ? to_neighbour(&node->next_hop) : DROP;
}

/* To another node, or back to a client. The stack cannot help: it would not know the packet. */
static __always_inline int edge_to_remote(struct __sk_buff *skb, struct packet *packet, const struct nat *row)
{
	struct flow_end end = remote_end(&row->to.destination);
	__u32 mtu = narrow(skb, link_to(&end));

	if (packet->ttl <= 1)
		return complain(skb, packet, TOO_OLD, 0);
	if (mtu)
		return complain(skb, packet, TOO_BIG, mtu);
	if (row->state & FLOW_SENT_ON)
		return send_unchanged(skb, packet, &end);
	return rewrite(skb, packet, row) ? DROP : send_on(skb, packet);
}

__global int pass_edge(struct __sk_buff *skb, struct packet *packet, const struct nat *row)
{
	if (!packet || !row)
		return DROP;
	return is_own_pods(&row->to.destination) ? edge_to_pod(skb, packet, row) :
						   edge_to_remote(skb, packet, row);
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
	/*
	 * What cannot open a connection is the stack's to answer. Or it is of one that the node sent on that had this
	 * address before. At the backend's node the stack would send it to that address, and so back, again and again.
	 */
	if (may_begin(packet) && !leads_on(row, client)) {
		if ((row->flags & FRONTEND_DSR) && !is_own_node(&packet->destination))
			*verdict = drop_quietly(DROP_NO_FLOW);
		return false;
	}
	reason = is_admitted(row, &packet->from) ? open_edge(skb, row, client) : DROP_SOURCE_RANGE;
	if (!reason)
		return true;
	*verdict = drop(skb, packet, reason, INGRESS);
	if (reason == DROP_NO_BACKEND && !(row->flags & FRONTEND_SILENT))
		*verdict = refuse_packet(skb, packet);
	return false;
}

/* Whether it is the tunnel's own: what is in it has a hook of its own. */
static __always_inline bool is_of_tunnel(const struct packet *packet)
{
	return config.overlay && packet->protocol == IPPROTO_UDP &&
	       packet->to_port == bpf_htons(config.overlay_port);
}

/* What a packet from outside the node becomes, at once or as it begins a connection; or nothing, and its verdict. */
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
	if (is_of_tunnel(packet) ||
	    (port >= config.masquerade_first && port <= config.masquerade_last && is_own_node(&packet->destination)))
		return NULL;
	row = bpf_map_lookup_elem(&nat, &key);
	if (row && !is_over(skb, packet, row))
		return row;
	if (row)
		nat_forget(&key, row);
	if (!begin_edge(skb, packet, &key, verdict))
		return NULL;
	*verdict = DROP;
	if (opens(packet))
		keep_syn(skb, packet);
	return bpf_map_lookup_elem(&nat, &key);
}

/* A packet to the opener of a translated connection, which its flow allows: what the client sees of it. */
static __noinline int deliver_translated(struct __sk_buff *skb, struct packet *packet,
					 const struct flow *flow, __u32 sender)
{
	struct tuple key = tuple_of(packet);
	struct nat *row = bpf_map_lookup_elem(&nat, &key);

	/* Its flow has outlived the translation. */
	if (!row)
		return drop_quietly(DROP_NO_FLOW);
	/* What the stack must answer, it must see as the pod sent it. */
	if (packet->ttl <= 1 || narrow(skb, link_to(&flow->end[other(sender)])))
		return PASS;
	nat_touch(row, packet);
	return rewrite(skb, packet, row) ? DROP : deliver_slowly(skb, packet, flow, sender);
}

#endif
