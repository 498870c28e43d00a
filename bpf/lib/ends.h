/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The two ends of a new flow: where they are, which decides the path of all its packets. */
#ifndef KILTER_ENDS_H
#define KILTER_ENDS_H

#include "base.h"
#include "maps.h"

static __always_inline void end_is_pod(struct flow_end *end, const struct endpoint *endpoint)
{
	end->kind = END_POD;
	end->via = endpoint->ifindex;
	end->slot = endpoint->slot;
	copy_mac(end->mac, endpoint->mac);
}

/* 0 when no route leads there. */
static __always_inline __u32 node_of(__be32 address)
{
	struct class_key key = {.prefixlen = 32, .address = address};
	__u32 *node = bpf_map_lookup_elem(&routes, &key);

	return node ? *node : 0;
}

static __always_inline bool in_cluster(__be32 address)
{
	for (int i = 0; i < CLUSTER_BLOCKS; i++)
		if (in_block(address, &config.cluster[i]))
			return true;
	return false;
}

/* 224.0.0.0 and up, and 0.0.0.0/8: nothing that a pod could have a connection with. */
static __always_inline bool is_unicast(__be32 address)
{
	__u8 first = *(__u8 *)&address;

	return first != 0 && first < 224;
}

/* Where a pod's packet to `address` goes; DROP_NONE, or why nowhere. */
static __always_inline int end_of_destination(struct flow_end *end, __be32 address)
{
	struct endpoint *endpoint;
	__u32 node;

	if (!is_unicast(address))
		return DROP_NOT_UNICAST;
	if (in_block(address, &config.services))
		return DROP_NO_SERVICE;
	if (in_block(address, &config.pods)) {
		endpoint = bpf_map_lookup_elem(&endpoints, &address);
		if (!endpoint)
			return DROP_NO_ENDPOINT;
		end_is_pod(end, endpoint);
		return DROP_NONE;
	}
	if (address == config.node_ip) {
		end->kind = END_NODE;
		return DROP_NONE;
	}
	node = node_of(address);
	if (node) {
		end->kind = END_REMOTE;
		end->via = node;
		return DROP_NONE;
	}
	if (in_cluster(address))
		return DROP_NO_ROUTE;
	end->kind = END_OUTSIDE;
	return DROP_NONE;
}

#endif
