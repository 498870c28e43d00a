/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What arrives from the other nodes and from outside. */
#include "lib/admit.h"
#include "lib/announce.h"
#include "lib/base.h"
#include "lib/edge.h"
#include "lib/ends.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "lib/parse.h"
#include "lib/redirect.h"
#include "lib/reset.h"

/* Whether this entry is of a pod here and of somebody beyond the uplink, who sent the packet. */
static __always_inline bool came_over_uplink(const struct flow *flow, __u32 sender)
{
	return flow->end[sender & 1].kind == END_REMOTE && flow->end[other(sender)].kind == END_POD;
}

static __noinline int from_uplink_slow(struct __sk_buff *skb, struct packet *packet,
				       const struct flow_key *key, __u32 end)
{
	struct flow fresh = {};
	__u32 sender = end & 1;
	struct endpoint *endpoint;
	struct flow *flow;

	flow = opens(packet) ? NULL : bpf_map_lookup_elem(&flows, key);
	if (flow) {
		if (!came_over_uplink(flow, sender))
			return drop(skb, packet, DROP_WRONG_PATH, INGRESS);
		if (!flow_allows_now(key, flow)) {
			tell_revoked(skb, packet, flow);
			return is_resettable(packet) ? reset_from_uplink(skb, packet, flow, sender) : DROP;
		}
		flow_touch(flow, packet, sender);
		return deliver_slowly(skb, packet, flow, sender);
	}
	endpoint = bpf_map_lookup_elem(&endpoints, &packet->destination);
	if (!endpoint)
		return drop(skb, packet, DROP_NO_ENDPOINT, INGRESS);
	if (may_begin(packet))
		return drop_unknown(skb, packet, INGRESS);
	end_is_pod(&fresh.end[other(sender)], endpoint);
	fresh.end[sender].kind = END_REMOTE;
	fresh.end[sender].via = node_of(&packet->source);
	fresh.opener = sender;
	fresh.state = packet->translated ? FLOW_TRANSLATED : 0;
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
 * Whose packet it is, before anything else is looked at: PASS is a pod's, PASS_ON the node's own, a
 * Service's, or nobody's business. redirect_peer skips the kernel's check for martians, so it is made here.
 */
static __always_inline int whose(struct __sk_buff *skb)
{
	struct address ends[2];

	if (!read_addresses(skb, ends))
		return PASS_ON;
	if (is_own_node(&ends[0]) || is_own_pods(&ends[0]))
		return drop_quietly(DROP_SOURCE_ADDRESS);
	if (is_own_pods(&ends[1]))
		return PASS;
	/* Some router takes us for another node: forwarding would hide that, and could loop. */
	if (in_cluster(&ends[1]))
		return drop_quietly(DROP_NO_ROUTE);
	return PASS_ON;
}

SEC("tcx/ingress")
int from_uplink(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct flow_key key;
	struct flow *flow;
	__u32 sender;
	int verdict, reason;

	/* A flooding bridge shows us frames of others; the stack ignores them. */
	if (skb->vlan_present)
		return PASS_ON;
	if (!is_ip(skb) || skb->pkt_type != PACKET_HOST)
		return answer_on_link(skb);
	verdict = whose(skb);
	if (verdict == DROP)
		return DROP;
	reason = parse(skb, &packet);
	if (verdict == PASS_ON) {
		/* What is not understood is not ours to drop. */
		if (reason)
			return reason == DROP_LINK ? answer_solicitation_at_edge(skb) : PASS_ON;
		verdict = from_edge(skb, &packet);
		if (verdict != TO_POD)
			return verdict;
	} else if (reason) {
		return drop(skb, &packet, reason, INGRESS);
	}
	sender = flow_key(&packet, &key) & 1;
	flow = opens(&packet) ? NULL : bpf_map_lookup_elem(&flows, &key);
	if (flow && flow_allows(flow) && came_over_uplink(flow, sender)) {
		flow_touch(flow, &packet, sender);
		return deliver(skb, &packet, flow, sender);
	}
	return from_uplink_slow(skb, &packet, &key, sender);
}
