/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A pod's gateway is a permanent neighbour, so a pod does not ask; when somebody inside has flushed
 * that, this answers, and nobody else on the node is asked.
 */
#ifndef KILTER_NEIGHBOUR_H
#define KILTER_NEIGHBOUR_H

#include "base.h"
#include "checksum.h"
#include "event.h"
#include "packet.h"

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

/* Sends what the frame is now to the pod that has just sent it. */
static __always_inline int answer(struct __sk_buff *skb)
{
	/* It may have come to a group; to the pod it goes. */
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(skb->ifindex, 0);
}

static __noinline int answer_arp(struct __sk_buff *skb)
{
	struct endpoint *endpoint;
	struct address sender;
	struct arp arp;

	if (bpf_skb_load_bytes(skb, 0, &arp, sizeof(arp)))
		return drop_quietly(DROP_MALFORMED);
	if (arp.operation != bpf_htons(ARP_REQUEST) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.target != GATEWAY)
		return drop_quietly(DROP_LINK);
	sender = mapped(arp.sender);
	endpoint = bpf_map_lookup_elem(&endpoints, &sender);
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
	return answer(skb);
}

/* Neighbour discovery (RFC 4861, 4.3 and 4.4), with the one option that matters. */
struct discovery {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 flags;
	struct address target;
	__u8 option;
	__u8 option_length;
	__u8 option_mac[ETH_ALEN];
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct discovery) == 32, "no holes on the wire");

#define DISCOVERY (ETH_HLEN + sizeof(struct ipv6hdr))
#define ROUTER_SOLICITED_OVERRIDE bpf_htonl(0xe0000000)
#define OPTION_TARGET_MAC 2

/* fe80::1 */
static __always_inline bool is_gateway6(const struct address *address)
{
	return address->half[0] == LINK_LOCAL && address->half[1] == bpf_cpu_to_be64(1);
}

/* Who asks: one of the pod's addresses, or the one that its link gave itself. */
static __always_inline bool may_ask(struct __sk_buff *skb, const struct address *source)
{
	struct endpoint *endpoint;

	if (is_link_local(source))
		return true;
	endpoint = bpf_map_lookup_elem(&endpoints, source);
	return endpoint && endpoint->ifindex == skb->ifindex;
}

static __always_inline int advertise(struct __sk_buff *skb, const struct packet *packet)
{
	struct address ends[2] = {{{LINK_LOCAL, bpf_cpu_to_be64(1)}}, packet->source};
	struct discovery discovery = {
		.type = ICMPV6_ADVERTISEMENT,
		.flags = ROUTER_SOLICITED_OVERRIDE,
		.target = ends[0],
		.option = OPTION_TARGET_MAC,
		.option_length = 1,
	};
	__be16 length = bpf_htons(sizeof(discovery));
	__u8 macs[2 * ETH_ALEN];

	if (bpf_skb_change_tail(skb, DISCOVERY + sizeof(discovery), 0) ||
	    bpf_skb_load_bytes(skb, ETH_ALEN, macs, ETH_ALEN))
		return drop_quietly(DROP_MALFORMED);
	copy_gateway_mac(macs + ETH_ALEN);
	copy_gateway_mac(discovery.option_mac);
	discovery.checksum = checksum(ends, IPPROTO_ICMPV6, &discovery, sizeof(discovery));
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, payload_len), &length, 2, 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), ends, sizeof(ends), 0) ||
	    bpf_skb_store_bytes(skb, DISCOVERY, &discovery, sizeof(discovery), 0))
		return drop_quietly(DROP_MALFORMED);
	return answer(skb);
}

/* Whether this says who listens to which group; every link that goes up does. Options come first. */
static __always_inline bool is_listener_report(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type;

	return packet->protocol == IPPROTO_HOPOPTS && !bpf_skb_load_bytes(skb, DISCOVERY + 8, &type, 1) &&
	       (type == ICMPV6_LISTENER_REPORT_V2 || type == ICMPV6_LISTENER_REPORT ||
		type == ICMPV6_LISTENER_DONE);
}

/* Whether it asks a neighbour; nobody farther away has a hop limit of 255 left. */
static __always_inline bool is_solicitation(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type;

	return packet->protocol == IPPROTO_ICMPV6 && packet->ttl == 255 &&
	       !bpf_skb_load_bytes(skb, DISCOVERY, &type, 1) && type == ICMPV6_SOLICITATION;
}

/* What a pod says to its link, over IPv6: parse() has stopped at DROP_LINK. */
static __noinline int answer_link(struct __sk_buff *skb, const struct packet *packet)
{
	struct address target;

	/* There is nobody else on this link who could care, and nothing to blame the pod for. */
	if (is_listener_report(skb, packet))
		return DROP;
	if (!is_solicitation(skb, packet)) {
		if (is_group(&packet->destination))
			return drop(skb, packet, DROP_NOT_UNICAST, EGRESS);
		return drop_quietly(DROP_LINK);
	}
	if (bpf_skb_load_bytes(skb, DISCOVERY + offsetof(struct discovery, target), &target, sizeof(target)))
		return drop_quietly(DROP_MALFORMED);
	if (!is_gateway6(&target))
		return drop_quietly(DROP_LINK);
	if (!may_ask(skb, &packet->source))
		return drop_quietly(DROP_SOURCE_ADDRESS);
	return advertise(skb, packet);
}

#endif
