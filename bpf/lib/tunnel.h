/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * VXLAN (RFC 7348), by one device of the kernel that is told with each packet where it goes and tells
 * of each where it came from. Nodes speak through it with their first address.
 */
#ifndef KILTER_TUNNEL_H
#define KILTER_TUNNEL_H

#include "base.h"
#include "event.h"
#include "maps.h"

#define TUNNEL_TTL 64

static __always_inline bool tunnel_is_ipv4(void)
{
	return !config.node[0].half[0] && (config.node[0].half[1] & MAPPED_MASK) == MAPPED;
}

/* struct bpf_tunnel_key without its last field, our own address: routes say it, and stacks are short. */
struct tunnel_key {
	__u32 id;
	__u32 remote[4];
	__u8 tos;
	__u8 ttl;
	__u16 extension;
	__u32 label;
};
_Static_assert(sizeof(struct tunnel_key) + 16 == sizeof(struct bpf_tunnel_key), "as the kernel has it");

/* Whether a packet came through this cluster's tunnel, from this node's end of it. */
static __noinline int sent_by_node(struct __sk_buff *skb, __u32 index)
{
	struct node *node = bpf_map_lookup_elem(&nodes, &index);
	__u64 flags = tunnel_is_ipv4() ? 0 : BPF_F_TUNINFO_IPV6;
	struct tunnel_key key = {};
	struct address sender;

	if (!node || bpf_skb_get_tunnel_key(skb, (void *)&key, sizeof(key), flags) || key.id != config.overlay_vni)
		return false;
	if (tunnel_is_ipv4())
		sender = mapped(bpf_htonl(key.remote[0]));
	else
		__builtin_memcpy(&sender, key.remote, sizeof(sender));
	return same_address(&node->next_hop, &sender);
}

/*
 * The inner Ethernet header has the gateway's address twice: who receives it takes whatever has come
 * through the tunnel, but no frame from the very address that his own device has.
 */
static __always_inline int to_tunnel(struct __sk_buff *skb, const struct node *node)
{
	struct tunnel_key key = {.id = config.overlay_vni, .ttl = TUNNEL_TTL};
	__u64 flags = BPF_F_TUNINFO_IPV6;
	struct ethhdr *ethernet;

	if (is_mapped(&node->next_hop)) {
		/* The inner checksums are enough; over IPv6 the kernel insists on the outer one. */
		flags = BPF_F_ZERO_CSUM_TX;
		key.remote[0] = bpf_ntohl(unmapped(&node->next_hop));
	} else {
		__builtin_memcpy(key.remote, &node->next_hop, sizeof(key.remote));
	}
	if (bpf_skb_set_tunnel_key(skb, (void *)&key, sizeof(key), flags))
		return drop_quietly(DROP_NO_ROUTE);
	ethernet = (void *)(long)skb->data;
	if ((void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return DROP;
	copy_gateway_mac(ethernet->h_dest);
	copy_gateway_mac(ethernet->h_source);
	return bpf_redirect(config.overlay, 0);
}

#endif
