/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The Internet checksum (RFC 1071), where a program writes whole headers. */
#ifndef KILTER_CHECKSUM_H
#define KILTER_CHECKSUM_H

#include "base.h"

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sum of whole words of bytes. */
static __always_inline __u64 sum_of(const void *bytes, __u32 length)
{
	return (__u32)bpf_csum_diff(NULL, 0, (void *)bytes, length, 0);
}

/*
 * The header that is not sent but summed: two addresses, protocol and length (RFC 9293, 3.1; RFC 8200,
 * 8.1). The mapped form's six bytes more are a word of 0xffff, which changes no sum.
 */
static __always_inline __u64 pseudo_sum(const struct address *ends, __u8 protocol, __u32 length)
{
	return sum_of(ends, 2 * sizeof(*ends)) + bpf_htons(protocol) + bpf_htons(length);
}

/* The checksum of a transport header, in which it is still 0, and all that follows it. */
static __always_inline __u16 checksum(const struct address *ends, __u8 protocol, const void *bytes,
				      __u32 length)
{
	return ~fold(sum_of(bytes, length) + pseudo_sum(ends, protocol, length));
}

#endif
