/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What other nodes send through the tunnel: packets of their pods, and their own to our pods. */
#include "lib/base.h"
#include "lib/event.h"
#include "lib/remote.h"

/*
 * Whose packet it is: PASS is a pod's, PASS_ON the node's own or a Service's. Only an inner source whose node is the
 * outer source is believed; for a pod's packet that is seen where its flow is, or begins.
 */
static __always_inline int whose_inner(struct __sk_buff *skb)
{
	struct address ends[2];

	if (!read_addresses(skb, ends))
		return drop_quietly(DROP_MALFORMED);
	if (is_own_node(&ends[0]) || is_own_pods(&ends[0]))
		return drop_quietly(DROP_SOURCE_ADDRESS);
	if (is_own_pods(&ends[1]))
		return PASS;
	/* We are no transit, neither to other nodes nor to the outside. */
	if (!is_own_node(&ends[1]))
		return drop_quietly(DROP_NO_ROUTE);
	return comes_from(skb, node_of(&ends[0]), WAY_TUNNEL) ? PASS_ON : drop_quietly(DROP_TUNNEL);
}

/* What the VXLAN device has unpacked. Nothing in the inner Ethernet header matters to anybody. */
SEC("tcx/ingress")
int from_overlay(struct __sk_buff *skb)
{
	int verdict;

	if (!is_ip(skb) || skb->vlan_present)
		return drop_quietly(DROP_LINK);
	verdict = whose_inner(skb);
	if (verdict == DROP)
		return DROP;
	/* Older kernels drop what redirect_peer brings a pod as another host's. */
	bpf_skb_change_type(skb, PACKET_HOST);
	return from_remote(skb, verdict == PASS, WAY_TUNNEL);
}
