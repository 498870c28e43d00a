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

/* The key of one address in a trie of prefixes. */
static __always_inline struct class_key host_key(const struct address *address)
{
	struct class_key key = {.prefixlen = 128};

	__builtin_memcpy(key.address, address, sizeof(key.address));
	return key;
}

/* 0 when no route leads there. */
static __always_inline __u32 node_of(const struct address *address)
{
	struct class_key key = host_key(address);
	__u32 *node = bpf_map_lookup_elem(&routes, &key);

	return node ? *node : 0;
}

/* Whether it is an address of another node: routes lead to those, and to blocks of pods. */
static __always_inline bool is_other_node(const struct address *address)
{
	return !in_cluster(address) && node_of(address);
}

/* Of somebody beyond this node. */
static __always_inline struct flow_end remote_end(const struct address *address)
{
	struct flow_end end = {.kind = END_REMOTE, .via = node_of(address)};

	return end;
}

/*
 * Not 224.0.0.0 and up, nor 0.0.0.0/8: nothing that a pod could have a connection with. Of IPv6,
 * parse() has refused what is not.
 */
static __always_inline bool is_unicast(const struct address *address)
{
	__u8 first;

	if (address->half[0])
		return true;
	first = ((const __u8 *)address)[12];
	return first != 0 && first < 224;
}

/* Where a pod's packet to `address` goes; DROP_NONE, or why nowhere. */
static __always_inline int end_of_destination(struct flow_end *end, const struct address *address)
{
	struct endpoint *endpoint;
	__u32 node;

	if (!is_unicast(address))
		return DROP_NOT_UNICAST;
	if (in_services(address))
		return DROP_NO_SERVICE;
	if (is_own_pods(address)) {
		endpoint = bpf_map_lookup_elem(&endpoints, address);
		if (!endpoint)
			return DROP_NO_ENDPOINT;
		end_is_pod(end, endpoint);
		return DROP_NONE;
	}
	if (is_own_node(address)) {
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
