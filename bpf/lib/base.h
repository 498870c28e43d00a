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

struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id; /* of echo */
	__be16 sequence;
};

#define AF_INET 2
#define ECONNREFUSED 111

/* IPv4 header (RFC 791). */
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff

const volatile struct config config = {};
const volatile struct vocabulary vocabulary = {};

static __always_inline bool in_block(__be32 address, const volatile struct block *block)
{
	return (address & block->mask) == block->network;
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
