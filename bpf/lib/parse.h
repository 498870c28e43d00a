/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* From bytes to a struct packet. */
#ifndef KILTER_PARSE_H
#define KILTER_PARSE_H

#include "base.h"
#include "packet.h"
#include "parse4.h"
#include "parse6.h"

static __always_inline bool is_ip(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) || skb->protocol == bpf_htons(ETH_P_IPV6);
}

static __always_inline int parse_linear(struct __sk_buff *skb, struct packet *packet)
{
	return skb->protocol == bpf_htons(ETH_P_IP) ? parse4(skb, packet) : parse6(skb, packet);
}

/* Headers of 14 + 60 + 20 bytes; those of IPv6 without extensions are shorter. */
#define PULL 94

__global int parse_again(struct __sk_buff *skb, struct packet *packet, int reason)
{
	__u32 want = skb->len < PULL ? skb->len : PULL;

	if (!packet)
		return DROP_MALFORMED;
	/* All there: it is the packet's fault. */
	if ((void *)(long)skb->data + want <= (void *)(long)skb->data_end || bpf_skb_pull_data(skb, want))
		return reason;
	return parse_linear(skb, packet);
}

/*
 * Fills `packet`, which must be zeroed, or says why that is impossible; DROP_LINK is for whoever
 * answers questions on the link. Moves packet pointers.
 */
static __always_inline int parse(struct __sk_buff *skb, struct packet *packet)
{
	int reason = parse_linear(skb, packet);

	if (reason == DROP_MALFORMED)
		reason = parse_again(skb, packet, reason);
	return reason;
}

#endif
