/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What comes from the other nodes and from outside, whether over the uplink as it is or through the
 * tunnel: the hooks differ in whose packet they believe, not in what becomes of it.
 */
#ifndef KILTER_REMOTE_H
#define KILTER_REMOTE_H

#include "admit.h"
#include "announce.h"
#include "attempt.h"
#include "base.h"
#include "edge.h"
#include "ends.h"
#include "event.h"
#include "flow.h"
#include "parse.h"
#include "redirect.h"
#include "reset.h"
#include "retry.h"
#include "tunnel.h"

/* The way on which a packet came. */
enum way {
	WAY_PLAIN, /* over the uplink as it is */
	WAY_TUNNEL,
};

/* Whether who is behind node `via` (0: nobody's node) sends on the way on which this packet came. */
static __always_inline bool comes_from(struct __sk_buff *skb, __u32 via, enum way way)
{
	if (!config.overlay)
		return true;
	return way == WAY_TUNNEL ? sent_by_node(skb, via) : !via;
}

/* Whether this entry is of a pod here and of somebody beyond the uplink, who sent the packet. */
static __always_inline bool came_from_remote(struct __sk_buff *skb, const struct flow *flow, __u32 sender,
					     enum way way)
{
	const struct flow_end *from = &flow->end[sender & 1];

	return from->kind == END_REMOTE && flow->end[other(sender)].kind == END_POD &&
	       comes_from(skb, from->via, way);
}

/*
 * A node that went and came back has another index than the one its flows know. Who it is shows as
 * for a new flow.
 */
static __always_inline bool finds_back(struct __sk_buff *skb, struct flow *flow, const struct packet *packet,
				       __u32 sender, enum way way)
{
	struct flow_end *from = &flow->end[sender & 1];
	__u32 node;

	if (!config.overlay || way != WAY_TUNNEL || from->kind != END_REMOTE || flow->end[other(sender)].kind != END_POD)
		return false;
	node = node_of(&packet->from);
	if (!comes_from(skb, node, way))
		return false;
	from->via = node;
	return true;
}

/* Past the tunnel comes no pod, neither of a known node nor of any that might be. */
static __always_inline bool is_past_tunnel(const struct address *source, enum way way)
{
	return config.overlay && way == WAY_PLAIN && in_cluster(source);
}

/* Whether the source of a new flow, of that node, may come this way. */
static __always_inline bool is_believed(struct __sk_buff *skb, const struct address *source, __u32 node,
					enum way way)
{
	return !is_past_tunnel(source, way) && comes_from(skb, node, way);
}

/*
 * The node that a new flow's source is behind. What nodes themselves send to a Service at this one comes
 * past the tunnel, and is answered there.
 */
static __always_inline __u32 source_node(const struct packet *packet, enum way way)
{
	if (config.overlay && way == WAY_PLAIN && packet->translated)
		return 0;
	return node_of(&packet->source);
}

__global int from_remote_slow(struct __sk_buff *skb, struct packet *packet,
			      const struct flow_key *key, __u32 end, enum way way)
{
	struct flow fresh = {};
	__u32 sender = end & 1;
	struct endpoint *endpoint;
	struct flow *flow;
	__u32 node;

	if (!packet || !key)
		return DROP;
	flow = opens(packet) ? NULL : bpf_map_lookup_elem(&flows, key);
	if (flow) {
		if (!came_from_remote(skb, flow, sender, way) && !finds_back(skb, flow, packet, sender, way))
			return drop(skb, packet, DROP_WRONG_PATH, INGRESS);
		if (!flow_allows_now(key, flow)) {
			tell_revoked(skb, packet, flow);
			return is_resettable(packet) ? reset_from_remote(skb, packet, flow, sender) : DROP;
		}
		flow_touch(flow, packet, sender);
		if ((flow->state & FLOW_ATTEMPT) && sender != flow->opener)
			end_attempt(packet, flow);
		/* What comes to a Service was translated at the edge, what comes from one to a pod is here. */
		if ((flow->state & FLOW_TRANSLATED) && sender != flow->opener)
			return deliver_translated(skb, packet, flow, sender);
		return deliver_slowly(skb, packet, flow, sender);
	}
	node = source_node(packet, way);
	if (!is_believed(skb, &packet->source, node, way))
		return drop(skb, packet, DROP_TUNNEL, INGRESS);
	endpoint = bpf_map_lookup_elem(&endpoints, &packet->destination);
	if (!endpoint)
		return drop(skb, packet, DROP_NO_ENDPOINT, INGRESS);
	if (may_begin(packet))
		return drop_unknown(skb, packet, INGRESS);
	end_is_pod(&fresh.end[other(sender)], endpoint);
	fresh.end[sender].kind = END_REMOTE;
	fresh.end[sender].via = node;
	fresh.opener = sender;
	fresh.state = packet->translated ? FLOW_TRANSLATED : 0;
	if (packet->attempt)
		fresh.state |= FLOW_ATTEMPT;
	if (admit(skb, packet, key, &fresh, endpoint))
		return DROP;
	return deliver_slowly(skb, packet, &fresh, sender);
}

/* Source and destination; false when they are not there. */
static __always_inline bool read_addresses(struct __sk_buff *skb, struct address ends[2])
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	struct iphdr *ip = data + ETH_HLEN;
	__be32 short_ends[2];

	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end)
			return !bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), ends,
						   2 * sizeof(*ends));
		ends[0] = address_at(&ip6->saddr);
		ends[1] = address_at(&ip6->daddr);
		return true;
	}
	if ((void *)(ip + 1) <= end) {
		short_ends[0] = ip->saddr;
		short_ends[1] = ip->daddr;
	} else if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), short_ends,
				      sizeof(short_ends))) {
		return false;
	}
	ends[0] = mapped(short_ends[0]);
	ends[1] = mapped(short_ends[1]);
	return true;
}

/*
 * A packet from outside the node that is not to the pod network. PASS_ON: it is the node's own. TO_POD: it was
 * translated. Else its verdict.
 */
static __always_inline int from_edge(struct __sk_buff *skb, struct packet *packet)
{
	int verdict;
	struct nat *row = find_nat(skb, packet, &verdict);

	if (!row)
		return verdict;
	if ((row->state & FLOW_ATTEMPT) && row->reply) {
		verdict = looks_refused(packet) ? carry(skb, packet) : NOT_CARRIED;
		if (verdict != NOT_CARRIED)
			return verdict;
		end_far_attempt(packet, row);
	}
	packet->attempt = !!(row->state & FLOW_ATTEMPT);
	nat_touch(row, packet);
	return pass_edge(skb, packet, row);
}

/* A packet from outside the node, whose addresses have been looked at: a pod's, or the node's or a Service's. */
static __always_inline int from_remote(struct __sk_buff *skb, bool to_pod, enum way way)
{
	struct packet packet = {};
	struct flow_key key;
	struct flow *flow;
	__u32 sender;
	int verdict, reason;

	reason = parse(skb, &packet);
	if (!to_pod) {
		/* What is not understood is not ours to drop. */
		if (reason)
			return reason == DROP_LINK && way == WAY_PLAIN ? answer_solicitation_at_edge(skb) : PASS_ON;
		verdict = from_edge(skb, &packet);
		if (verdict != TO_POD)
			return verdict;
	} else if (reason) {
		return drop(skb, &packet, reason, INGRESS);
	}
	sender = flow_key(&packet, &key) & 1;
	flow = opens(&packet) ? NULL : bpf_map_lookup_elem(&flows, &key);
	if (flow && flow_allows(flow) && came_from_remote(skb, flow, sender, way)) {
		flow_touch(flow, &packet, sender);
		return deliver(skb, &packet, flow, sender);
	}
	if (flow && may_refuse(&packet, flow, sender) && came_from_remote(skb, flow, sender, way) &&
	    flow_allows_now(&key, flow)) {
		verdict = carry(skb, &packet);
		if (verdict != NOT_CARRIED)
			return verdict;
	}
	return from_remote_slow(skb, &packet, &key, sender, way);
}

#endif
