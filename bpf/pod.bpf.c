/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Both directions of the host side of a pod's veth pair. */
#include "lib/admit.h"
#include "lib/attempt.h"
#include "lib/base.h"
#include "lib/edge.h"
#include "lib/ends.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "lib/neighbour.h"
#include "lib/parse.h"
#include "lib/redirect.h"
#include "lib/reset.h"
#include "lib/retry.h"

/* What from_pod_slow() answers about a connection that was carried to another backend. No verdict of tcx. */
#define CARRIED 1002

/* Whether this entry says that `sender` is the pod behind this link, and its MAC is right. */
static __always_inline bool sent_from_here(struct __sk_buff *skb, const struct flow *flow, __u32 sender)
{
	const struct flow_end *end = &flow->end[sender & 1];
	struct ethhdr *ethernet = (void *)(long)skb->data;

	if (end->kind != END_POD || end->via != skb->ifindex)
		return false;
	if ((void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return false;
	return same_mac(ethernet->h_source, end->mac);
}

/* DROP_NONE when the packet's source is this link's pod. */
static __always_inline int check_source(struct __sk_buff *skb, const struct packet *packet,
					const struct endpoint *endpoint)
{
	__u16 mac[ETH_ALEN / 2];

	if (!endpoint || endpoint->ifindex != skb->ifindex)
		return DROP_SOURCE_ADDRESS;
	if (bpf_skb_load_bytes(skb, ETH_ALEN, mac, sizeof(mac)) ||
	    !same_mac(mac, endpoint->mac))
		return DROP_SOURCE_MAC;
	/* A pod is no router: its ICMP errors are about what it received itself. */
	if (!same_address(&packet->from, &packet->source))
		return DROP_SOURCE_ADDRESS;
	return DROP_NONE;
}

/* No mark survives the way out of a pod's namespace: one that is here was set by our programs. */
static __always_inline bool is_our_reset(struct __sk_buff *skb)
{
	return skb->mark == config.reset_mark;
}

static __always_inline int revoked_from_pod(struct __sk_buff *skb, struct packet *packet,
					    const struct flow *flow, __u32 sender)
{
	if (is_our_reset(skb)) {
		skb->mark = 0;
		return deliver_slowly(skb, packet, flow, sender);
	}
	tell_revoked(skb, packet, flow);
	return is_resettable(packet) ? reset_from_pod(skb, packet, flow, sender) : DROP;
}

/* A first packet, or one whose flow must be looked at more closely. */
__global int from_pod_slow(struct __sk_buff *skb, struct packet *packet,
			   const struct flow_key *key, __u32 end)
{
	struct flow fresh = {};
	__u32 sender = end & 1;
	struct endpoint *endpoint;
	struct flow *flow;
	int reason;

	if (!packet || !key)
		return DROP;
	endpoint = bpf_map_lookup_elem(&endpoints, &packet->source);
	reason = check_source(skb, packet, endpoint);
	if (reason || !endpoint)
		return drop(skb, packet, reason, EGRESS);
	flow = opens(packet) ? NULL : bpf_map_lookup_elem(&flows, key);
	if (flow && sent_from_here(skb, flow, sender)) {
		if (!flow_allows_now(key, flow))
			return revoked_from_pod(skb, packet, flow, sender);
		flow_touch(flow, packet, sender);
		if ((flow->state & FLOW_ATTEMPT) && sender != flow->opener)
			end_attempt(packet, flow);
		if (flow->state & FLOW_TRANSLATED)
			return deliver_translated(skb, packet, flow, sender);
		return deliver_slowly(skb, packet, flow, sender);
	}
	if (opens(packet))
		fresh.state = keep_syn(skb, packet);
	if (fresh.state == FLOW_TRANSLATED || (!opens(packet) && is_carried(packet)))
		return CARRIED;
	if (may_begin(packet))
		return drop_unknown(skb, packet, EGRESS);
	end_is_pod(&fresh.end[sender], endpoint);
	reason = end_of_destination(&fresh.end[other(sender)], &packet->destination);
	if (reason)
		return drop(skb, packet, reason, EGRESS);
	fresh.opener = sender;
	if (admit(skb, packet, key, &fresh, endpoint))
		return DROP;
	return deliver_slowly(skb, packet, &fresh, sender);
}

/* A packet to the backend that refused, of a connection that another has: what that one sees of it. */
__global int deliver_carried(struct __sk_buff *skb, struct packet *packet)
{
	const struct flow_end *to;
	struct flow_key key;
	struct tuple known;
	struct flow *flow;
	struct nat *row;
	__u32 sender;

	if (!packet)
		return DROP;
	known = tuple_of(packet);
	row = bpf_map_lookup_elem(&nat, &known);
	if (!row)
		return drop_quietly(DROP_NO_FLOW);
	sender = flow_key_of(&row->to, &key) & 1;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !(flow->state & FLOW_TRANSLATED))
		return drop_quietly(DROP_NO_FLOW);
	if (!flow_allows_now(&key, flow))
		return revoked_from_pod(skb, packet, flow, sender);
	to = &flow->end[other(sender)];
	/* What the stack must answer, it must see as the pod sent it. */
	if (packet->ttl <= 1 || narrow(skb, link_to(to)))
		return PASS;
	flow_touch(flow, packet, sender);
	nat_touch(row, packet);
	return rewrite(skb, packet, row) ? DROP : deliver_slowly(skb, packet, flow, sender);
}

/* Everything that a pod sends. */
SEC("tcx/ingress")
int from_pod(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct flow_key key;
	struct flow *flow;
	__u32 sender;
	int reason, verdict;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_arp(skb);
	if (!is_ip(skb) || skb->vlan_present)
		return drop_quietly(DROP_LINK);
	reason = parse(skb, &packet);
	if (reason == DROP_LINK)
		return answer_link(skb, &packet);
	if (skb->pkt_type != PACKET_HOST)
		return drop_quietly(DROP_LINK);
	if (reason)
		return drop(skb, &packet, reason, EGRESS);
	sender = flow_key(&packet, &key) & 1;
	flow = opens(&packet) ? NULL : bpf_map_lookup_elem(&flows, &key);
	if (flow && flow_allows(flow) && sent_from_here(skb, flow, sender)) {
		flow_touch(flow, &packet, sender);
		return deliver(skb, &packet, flow, sender);
	}
	if (flow && may_refuse(&packet, flow, sender) && !is_our_reset(skb) && sent_from_here(skb, flow, sender) &&
	    flow_allows_now(&key, flow)) {
		verdict = carry(skb, &packet);
		if (verdict != NOT_CARRIED)
			return verdict;
	}
	verdict = from_pod_slow(skb, &packet, &key, sender);
	return verdict == CARRIED ? deliver_carried(skb, &packet) : verdict;
}

/* Whether a packet that the stack sends to a pod came the way its flow's entry says. */
static __always_inline bool came_as_known(struct __sk_buff *skb, const struct flow *flow, __u32 sender)
{
	const struct flow_end *end = &flow->end[sender & 1];

	switch (end->kind) {
	case END_POD:
		return skb->ingress_ifindex == end->via;
	case END_REMOTE:
		return skb->ingress_ifindex == (is_tunnelled(end) ? config.overlay : config.uplink);
	case END_OUTSIDE:
		return skb->ingress_ifindex != 0;
	default:
		return skb->ingress_ifindex == 0;
	}
}

/* Whether this link's pod is the end that `sender` sends to. */
static __always_inline bool leads_here(struct __sk_buff *skb, const struct flow *flow, __u32 sender)
{
	const struct flow_end *end = &flow->end[other(sender)];

	return end->kind == END_POD && end->via == skb->ifindex;
}

/* Forwarded into a pod by the stack, and not known: from a second interface, or a bridge of others. */
static __always_inline int source_behind_stack(struct flow_end *end, const struct address *source)
{
	/* Of the node and of its pods the stack forwards nothing: those come from sockets or veths. */
	if (is_own_node(source) || is_own_pods(source))
		return DROP_SOURCE_ADDRESS;
	end->kind = END_OUTSIDE;
	return DROP_NONE;
}

/* A packet of a socket of this node. It may always pass; an entry lets the replies pass too. */
static __always_inline int from_own_node(struct __sk_buff *skb, const struct packet *packet,
					 const struct flow_key *key, struct flow *fresh,
					 struct endpoint *endpoint)
{
	if (may_begin(packet))
		return PASS;
	fresh->end[fresh->opener & 1].kind = END_NODE;
	return admit(skb, packet, key, fresh, endpoint) ? DROP : PASS;
}

static __always_inline int revoked_to_pod(struct __sk_buff *skb, const struct packet *packet,
					  const struct flow *flow, __u32 sender)
{
	tell_revoked(skb, packet, flow);
	return is_resettable(packet) ? reset_to_pod(skb, packet, flow, sender) : DROP;
}

__global int to_pod_slow(struct __sk_buff *skb, const struct packet *packet,
			 const struct flow_key *key, __u32 end)
{
	struct flow fresh = {};
	__u32 sender = end & 1;
	struct endpoint *endpoint;
	struct flow *flow;
	int reason;

	if (!packet || !key)
		return DROP;
	endpoint = bpf_map_lookup_elem(&endpoints, &packet->destination);
	if (!endpoint || endpoint->ifindex != skb->ifindex)
		return drop(skb, packet, DROP_NO_ENDPOINT, INGRESS);
	/* Of a connection that was carried to another backend, the ends that the pod knows have no flow. */
	if (is_our_reset(skb))
		return PASS;
	end_is_pod(&fresh.end[other(sender)], endpoint);
	fresh.opener = sender;
	flow = opens(packet) ? NULL : bpf_map_lookup_elem(&flows, key);
	if (flow) {
		if (came_as_known(skb, flow, sender)) {
			if (!flow_allows_now(key, flow))
				return revoked_to_pod(skb, packet, flow, sender);
			flow_touch(flow, packet, sender);
			if (packet->kind == PACKET_FIRST_FRAGMENT)
				remember_fragment(packet);
			return PASS;
		}
		/* From a socket of this node with an address that is not the node's: it may. */
		return skb->ingress_ifindex ? drop(skb, packet, DROP_WRONG_PATH, INGRESS) : PASS;
	}
	if (packet->kind == PACKET_FIRST_FRAGMENT)
		remember_fragment(packet);
	if (!skb->ingress_ifindex)
		return from_own_node(skb, packet, key, &fresh, endpoint);
	if (may_begin(packet))
		return drop_unknown(skb, packet, INGRESS);
	reason = source_behind_stack(&fresh.end[sender], &packet->source);
	if (reason)
		return drop(skb, packet, reason, INGRESS);
	return admit(skb, packet, key, &fresh, endpoint) ? DROP : PASS;
}

/* The node's own neighbour table asks; the pod's answer does not matter, ours is permanent. */
static __always_inline int on_link(struct __sk_buff *skb)
{
	bool asks = skb->protocol == bpf_htons(ETH_P_ARP) || skb->protocol == bpf_htons(ETH_P_IPV6);

	return asks && !skb->ingress_ifindex ? PASS : drop_quietly(DROP_LINK);
}

/* Everything that the kernel itself sends or forwards into a pod. Redirects do not come here. */
SEC("tcx/egress")
int to_pod(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct flow_key key;
	struct flow *flow;
	__u32 sender;
	int reason;

	if (!is_ip(skb))
		return on_link(skb);
	reason = parse(skb, &packet);
	if (reason == DROP_LINK)
		return on_link(skb);
	if (reason)
		return drop(skb, &packet, reason, INGRESS);
	sender = flow_key(&packet, &key) & 1;
	flow = opens(&packet) ? NULL : bpf_map_lookup_elem(&flows, &key);
	if (flow && flow_allows(flow) && came_as_known(skb, flow, sender) && leads_here(skb, flow, sender) &&
	    packet.kind != PACKET_FIRST_FRAGMENT) {
		flow_touch(flow, &packet, sender);
		return PASS;
	}
	return to_pod_slow(skb, &packet, &key, sender);
}
