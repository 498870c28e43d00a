/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A pod's gateway is a permanent neighbour, so a pod does not ask; when somebody inside has flushed
 * that, this answers, and nobody else on the node is asked.
 */
#ifndef KILTER_ARP_H
#define KILTER_ARP_H

#include "base.h"
#include "event.h"

/* Ethernet and IPv4 (RFC 826). */
struct arp {
	struct ethhdr link;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

#define ARP_REQUEST 1
#define ARP_REPLY 2

#define GATEWAY bpf_htonl(0xa9fe0101) /* 169.254.1.1 */

static __noinline int answer_arp(struct __sk_buff *skb)
{
	struct endpoint *endpoint;
	struct arp arp;

	if (bpf_skb_load_bytes(skb, 0, &arp, sizeof(arp)))
		return drop_quietly(DROP_MALFORMED);
	if (arp.operation != bpf_htons(ARP_REQUEST) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.target != GATEWAY)
		return drop_quietly(DROP_LINK);
	endpoint = bpf_map_lookup_elem(&endpoints, &arp.sender);
	if (!endpoint || endpoint->ifindex != skb->ifindex)
		return drop_quietly(DROP_SOURCE_ADDRESS);
	if (!same_mac(arp.sender_mac, endpoint->mac))
		return drop_quietly(DROP_SOURCE_MAC);
	arp.operation = bpf_htons(ARP_REPLY);
	arp.target = arp.sender;
	arp.sender = GATEWAY;
	for (int i = 0; i < ETH_ALEN; i++) {
		arp.target_mac[i] = arp.link.h_dest[i] = endpoint->mac[i];
		arp.sender_mac[i] = arp.link.h_source[i] = config.gateway_mac[i];
	}
	if (bpf_skb_store_bytes(skb, 0, &arp, sizeof(arp), 0))
		return drop_quietly(DROP_MALFORMED);
	/* A broadcast came in; to the pod it goes. */
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(skb->ifindex, 0);
}

#endif
