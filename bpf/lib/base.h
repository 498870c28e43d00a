/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What every file needs: kernel headers, the few numbers they do not give us, and the config. */
#ifndef KILTER_BASE_H
#define KILTER_BASE_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../abi.h"

/* tcx return codes (linux/bpf.h since 6.6; the headers we build with may be older). */
#define PASS_ON (-1) /* TCX_NEXT: to the next program, or else the stack */
#define PASS 0	     /* TCX_PASS */
#define DROP 2	     /* TCX_DROP */

/* linux/icmp.h and linux/if_arp.h pull in the C library, which there is none of here. */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

/*
 * A function that the verifier walks once for itself, not again for every way that leads to it ("global
 * function"). So it knows nothing of the arguments: numbers, the packet, and whole structs, which may be NULL
 * to it; and what is answered is a number.
 */
#define __global __noinline

/* ICMPv6 (RFC 4443, 4861, 2710, 3810). */
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_LISTENER_QUERY 130
#define ICMPV6_LISTENER_REPORT 131
#define ICMPV6_LISTENER_DONE 132
#define ICMPV6_SOLICITATION 135
#define ICMPV6_ADVERTISEMENT 136
#define ICMPV6_REDIRECT 137
#define ICMPV6_LISTENER_REPORT_V2 143

/* Of both versions, as far as an echo goes. */
struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id; /* of echo */
	__be16 sequence;
};

#define AF_INET 2
#define AF_INET6 10
#define E2BIG 7
#define ECONNREFUSED 111

/* IPv4 header (RFC 791). */
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff

/* The first bits of an IPv6 address: fe80::/10, ff00::/8, and ::/64 with the mapped form within. */
#define LINK_LOCAL bpf_cpu_to_be64(0xfe80000000000000ULL)
#define LINK_LOCAL_MASK bpf_cpu_to_be64(0xffc0000000000000ULL)
#define MULTICAST_MASK bpf_cpu_to_be64(0xff00000000000000ULL)
#define MAPPED bpf_cpu_to_be64(0x0000ffff00000000ULL)
#define MAPPED_MASK bpf_cpu_to_be64(0xffffffff00000000ULL)

static __always_inline struct address mapped(__be32 v4)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	struct address address = {{0, (__u64)v4 << 32 | MAPPED}};
#else
	struct address address = {{0, v4 | MAPPED}};
#endif

	return address;
}

static __always_inline bool is_mapped(const struct address *address)
{
	return !address->half[0] && (address->half[1] & MAPPED_MASK) == MAPPED;
}

static __always_inline __be32 unmapped(const struct address *address)
{
	return ((const __be32 *)address)[3];
}

/* The address that in rows stands for those of each node, of the family of `like`. */
static __always_inline struct address any_address(const struct address *like)
{
	struct address none = {};

	return is_mapped(like) ? mapped(0) : none;
}

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
}

static __always_inline bool is_link_local(const struct address *address)
{
	return (address->half[0] & LINK_LOCAL_MASK) == LINK_LOCAL;
}

/* Of IPv6. */
static __always_inline bool is_group(const struct address *address)
{
	return (address->half[0] & MULTICAST_MASK) == MULTICAST_MASK;
}

static __always_inline bool is_nobody(const struct address *address)
{
	return !(address->half[0] | address->half[1]);
}

const volatile struct config config = {};
const volatile struct vocabulary vocabulary = {};

static __always_inline bool in_block(const struct address *address, const volatile struct block *block)
{
	return (address->half[0] & block->mask.half[0]) == block->network.half[0] &&
	       (address->half[1] & block->mask.half[1]) == block->network.half[1];
}

/* Counts are constants to the verifier, which removes the rounds that never come. */
static __always_inline bool in_blocks(const struct address *address, const volatile struct block *blocks,
				      __u32 count)
{
	for (int i = 0; i < BLOCKS; i++) {
		if (i >= count)
			break;
		if (in_block(address, &blocks[i]))
			return true;
	}
	return false;
}

static __always_inline bool is_own_pods(const struct address *address)
{
	return in_blocks(address, config.pods, config.pods_count);
}

static __always_inline bool in_services(const struct address *address)
{
	return in_blocks(address, config.services, config.services_count);
}

static __always_inline bool in_cluster(const struct address *address)
{
	return in_blocks(address, config.cluster, config.cluster_count);
}

static __always_inline bool is_own_node(const struct address *address)
{
	for (int i = 0; i < BLOCKS; i++) {
		if (i >= config.node_count)
			break;
		if (address->half[0] == config.node[i].half[0] && address->half[1] == config.node[i].half[1])
			return true;
	}
	return false;
}

/* The other of two: ends of a flow, directions. Bounded, as the verifier wants indices. */
static __always_inline __u32 other(__u32 index)
{
	return (index ^ 1) & 1;
}

static __always_inline bool same_mac(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

static __always_inline void copy_mac(void *to, const void *from)
{
	__u16 *x = to;
	const __u16 *y = from;

	x[0] = y[0];
	x[1] = y[1];
	x[2] = y[2];
}

/* Not by copy_mac: without `volatile` the compiler would take the initial zeros for the value. */
static __always_inline void copy_gateway_mac(void *to)
{
	__u16 *x = to;
	const volatile __u16 *y = (const volatile __u16 *)config.gateway_mac;

	x[0] = y[0];
	x[1] = y[1];
	x[2] = y[2];
}

/* The clock of struct flow: about a second, without a division. */
static __always_inline __u32 clock_now(void)
{
	return bpf_ktime_get_coarse_ns() >> 30;
}

#endif
