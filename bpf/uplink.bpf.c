/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What arrives from the other nodes and from outside. */
#include "lib/announce.h"
#include "lib/base.h"
#include "lib/event.h"
#include "lib/remote.h"

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
	if (is_past_tunnel(&ends[0], WAY_PLAIN))
		return drop_quietly(DROP_TUNNEL);
	/* Some router takes us for another node: forwarding would hide that, and could loop. */
	if (in_cluster(&ends[1]))
		return drop_quietly(DROP_NO_ROUTE);
	return PASS_ON;
}

SEC("tcx/ingress")
int from_uplink(struct __sk_buff *skb)
{
	int verdict;

	/* A flooding bridge shows us frames of others; the stack ignores them. */
	if (skb->vlan_present)
		return PASS_ON;
	if (!is_ip(skb) || skb->pkt_type != PACKET_HOST)
		return answer_on_link(skb);
	verdict = whose(skb);
	return verdict == DROP ? DROP : from_remote(skb, verdict == PASS, WAY_PLAIN);
}
