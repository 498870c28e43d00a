/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Addresses of load balancers on the node network: who asks whose they are is told by the node that answers
 * for them. No link has them, so nothing of the node's own can be reached at them.
 */
#ifndef KILTER_ANNOUNCE_H
#define KILTER_ANNOUNCE_H

#include "base.h"
#include "checksum.h"
#include "event.h"
#include "maps.h"
#include "neighbour.h"
#include "packet.h"
#include "parse6.h"
#include "unreachable.h"

/* The row of an address for which this node answers. */
static __noinline struct announced *find_announced(const struct address *address)
{
	struct class_key key = {.prefixlen = 8 * sizeof(*address)};

	__builtin_memcpy(key.address, address, sizeof(*address));
	return bpf_map_lookup_elem(&announced, &key);
}

static __always_inline bool is_announced(const struct address *address)
{
	return find_announced(address);
}

/* A question by ARP (RFC 826), or a probe whether an address is free (RFC 5227). */
static __noinline int answer_arp_at_edge(struct __sk_buff *skb)
{
	struct announced *row;
	struct address target;
	struct arp arp;

	if (bpf_skb_load_bytes(skb, 0, &arp, sizeof(arp)) || arp.operation != bpf_htons(ARP_REQUEST) ||
	    arp.protocol != bpf_htons(ETH_P_IP) || arp.sender == arp.target)
		return PASS_ON;
	target = mapped(arp.target);
	row = find_announced(&target);
	if (!row)
		return PASS_ON;
	arp.operation = bpf_htons(ARP_REPLY);
	arp.target = arp.sender;
	arp.sender = unmapped(&target);
	copy_mac(arp.target_mac, arp.sender_mac);
	copy_mac(arp.sender_mac, row->mac);
	copy_mac(arp.link.h_dest, arp.target_mac);
	copy_mac(arp.link.h_source, row->mac);
	if (bpf_skb_store_bytes(skb, 0, &arp, sizeof(arp), 0))
		return drop_quietly(DROP_MALFORMED);
	return bpf_redirect(config.uplink, 0);
}

#define SOLICITED_OVERRIDE bpf_htonl(0x60000000)
#define OVERRIDE bpf_htonl(0x20000000)

/* Who asks for which address, by a solicitation (RFC 4861, 4.3). */
struct solicitation {
	struct address asker;
	struct address target;
	__u8 mac[ETH_ALEN];
	__u8 pad[2];
};

struct advertisement {
	__u8 macs[2 * ETH_ALEN];
	struct address ends[2];
	struct discovery discovery;
} __attribute__((aligned(8)));

/* Who asks for itself whether the address is free has none yet: everybody is told (RFC 4861, 7.2.4). */
static __always_inline void address_advertisement(struct advertisement *answer, const struct solicitation *asked)
{
	const __u8 everybody[ETH_ALEN] = {0x33, 0x33, 0, 0, 0, 1};

	if (is_nobody(&asked->asker)) {
		answer->ends[1].half[0] = bpf_cpu_to_be64(0xff02000000000000ULL);
		answer->ends[1].half[1] = bpf_cpu_to_be64(1);
		answer->discovery.flags = OVERRIDE;
		__builtin_memcpy(answer->macs, everybody, ETH_ALEN);
		return;
	}
	answer->ends[1] = asked->asker;
	answer->discovery.flags = SOLICITED_OVERRIDE;
	__builtin_memcpy(answer->macs, asked->mac, ETH_ALEN);
}

static __noinline int send_advertisement(struct __sk_buff *skb, const struct solicitation *asked,
					 const struct announced *row)
{
	struct advertisement answer = {};
	__be16 length = bpf_htons(sizeof(answer.discovery));

	answer.ends[0] = asked->target;
	answer.discovery.type = ICMPV6_ADVERTISEMENT;
	answer.discovery.target = asked->target;
	answer.discovery.option = OPTION_TARGET_MAC;
	answer.discovery.option_length = 1;
	address_advertisement(&answer, asked);
	__builtin_memcpy(answer.macs + ETH_ALEN, row->mac, ETH_ALEN);
	__builtin_memcpy(answer.discovery.option_mac, row->mac, ETH_ALEN);
	answer.discovery.checksum =
		checksum(answer.ends, IPPROTO_ICMPV6, &answer.discovery, sizeof(answer.discovery));
	if (bpf_skb_change_tail(skb, DISCOVERY + sizeof(answer.discovery), 0) ||
	    bpf_skb_store_bytes(skb, 0, answer.macs, sizeof(answer.macs), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, payload_len), &length, 2, 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), answer.ends, sizeof(answer.ends),
				0) ||
	    bpf_skb_store_bytes(skb, DISCOVERY, &answer.discovery, sizeof(answer.discovery), 0))
		return drop_quietly(DROP_MALFORMED);
	return bpf_redirect(config.uplink, 0);
}

/* A question of IPv6, to the group of those whose addresses end alike, or to the address itself. */
static __noinline int answer_solicitation_at_edge(struct __sk_buff *skb)
{
	struct solicitation asked = {};
	struct announced *row;
	__u8 next[2], type[2];

	/* Nobody farther away than the link has a hop limit of 255 left. */
	if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, nexthdr), next, sizeof(next)) ||
	    next[0] != IPPROTO_ICMPV6 || next[1] != 255 || bpf_skb_load_bytes(skb, DISCOVERY, type, sizeof(type)) ||
	    type[0] != ICMPV6_SOLICITATION || type[1] ||
	    bpf_skb_load_bytes(skb, DISCOVERY + offsetof(struct discovery, target), &asked.target,
			       sizeof(asked.target)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), &asked.asker,
			       sizeof(asked.asker)) ||
	    bpf_skb_load_bytes(skb, ETH_ALEN, asked.mac, sizeof(asked.mac)))
		return PASS_ON;
	row = find_announced(&asked.target);
	return row ? send_advertisement(skb, &asked, row) : PASS_ON;
}

/* What is said on the link, and not sent to the node itself. */
static __always_inline int answer_on_link(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_arp_at_edge(skb);
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && skb->pkt_type == PACKET_MULTICAST)
		return answer_solicitation_at_edge(skb);
	return PASS_ON;
}

/*
 * A packet to a load balancer's address that no Service serves there. The stack would look for the address
 * on the very link it came from; connections are refused at once.
 */
static __always_inline int refuse_at_announced(struct __sk_buff *skb, const struct packet *packet)
{
	if (is_own_node(&packet->destination) || !is_announced(&packet->destination))
		return PASS_ON;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return drop_quietly(DROP_NO_SERVICE);
	drop(skb, packet, DROP_NO_SERVICE, INGRESS);
	return refuse_packet(skb, packet);
}

#endif
