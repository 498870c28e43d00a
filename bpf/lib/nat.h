/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Translated connections: their table, and the rewriting of a packet. */
#ifndef KILTER_NAT_H
#define KILTER_NAT_H

#include "base.h"
#include "flow.h"
#include "maps.h"
#include "packet.h"
#include "parse6.h"

static __always_inline struct tuple tuple_of(const struct packet *packet)
{
	struct tuple tuple = {
		.source = packet->from,
		.destination = packet->destination,
		.source_port = packet->from_port,
		.destination_port = packet->to_port,
		.protocol = packet->protocol,
	};

	return tuple;
}

static __always_inline struct tuple reverse(const struct tuple *tuple)
{
	struct tuple back = {
		.source = tuple->destination,
		.destination = tuple->source,
		.source_port = tuple->destination_port,
		.destination_port = tuple->source_port,
		.protocol = tuple->protocol,
	};

	return back;
}

static __always_inline bool same_tuple(const struct tuple *a, const struct tuple *b)
{
	return same_address(&a->source, &b->source) && same_address(&a->destination, &b->destination) &&
	       a->source_port == b->source_port && a->destination_port == b->destination_port &&
	       a->protocol == b->protocol;
}

/* Notes a packet, as flow_touch() does; each direction has a row of its own. */
static __always_inline void nat_touch(struct nat *row, const struct packet *packet)
{
	__u32 now = clock_now();
	__u8 state = row->state;

	if (packet->kind == PACKET_ICMP_ERROR)
		return;
	/* Answers to what is sent on are not seen: who goes on after his SYN has had one, of datagrams it is assumed. */
	if (row->reply || ((row->state & FLOW_SENT_ON) && !opens(packet)))
		state |= FLOW_REPLIED;
	if (packet->tcp_flags & TCP_FIN)
		state |= row->reply ? FLOW_FIN_1 : FLOW_FIN_0;
	if (packet->tcp_flags & TCP_RST)
		state |= FLOW_RESET;
	if (state != row->state)
		row->state = state;
	if (now != row->seen)
		row->seen = now;
}

/* Forgets a connection; `key` and `row` are of one direction. */
__global int nat_forget(const struct tuple *key, const struct nat *row)
{
	struct tuple partner;

	if (!key || !row)
		return 0;
	partner = reverse(&row->to);
	if (!(row->state & FLOW_SENT_ON))
		bpf_map_delete_elem(&nat, &partner);
	return bpf_map_delete_elem(&nat, key);
}

/* Writes one end of the IP header at `header`: 0 for the source, 1 for the destination. */
static __always_inline int store_end(struct __sk_buff *skb, __u32 header, __u8 version, __u32 end,
				     const struct address *address)
{
	__be32 short_address = unmapped(address);

	if (version == 4)
		return bpf_skb_store_bytes(skb, header + offsetof(struct iphdr, saddr) + 4 * end, &short_address,
					   sizeof(short_address), 0);
	return bpf_skb_store_bytes(skb, header + offsetof(struct ipv6hdr, saddr) + 16 * end, address,
				   sizeof(*address), 0);
}

/* By what the sum of some words changes. */
static __always_inline __u32 difference(const void *before, const void *after, __u32 length)
{
	return (__u32)bpf_csum_diff((void *)before, length, (void *)after, length, 0);
}

/* The ports in a transport header; its checksum is at `check`, or nowhere. */
static __noinline int rewrite_transport(struct __sk_buff *skb, const struct packet *packet,
					     const struct nat *row, __u32 addresses)
{
	__be16 before[2] = {packet->from_port, packet->to_port};
	__be16 after[2] = {row->to.source_port, row->to.destination_port};
	__u32 at = ETH_HLEN + packet->header, check = at + offsetof(struct tcphdr, check);
	__u64 flags = 0;

	if (packet->protocol == IPPROTO_UDP) {
		check = at + offsetof(struct udphdr, check);
		flags = BPF_F_MARK_MANGLED_0;
	}
	if (bpf_l4_csum_replace(skb, check, 0, addresses, flags | BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, check, 0, difference(before, after, sizeof(before)), flags))
		return -1;
	return bpf_skb_store_bytes(skb, at, after, sizeof(after), 0);
}

/*
 * What an ICMP error quotes is a packet that went the other way, translated. Its header of IPv4 has a
 * checksum of its own, so that the header's words have the same sum as before. (The order of addresses
 * does not matter to a sum.)
 */
static __noinline int rewrite_quoted(struct __sk_buff *skb, const struct packet *packet, const struct nat *row,
				     __u32 outer)
{
	__u32 error = ETH_HLEN + packet->header, quoted = error + sizeof(struct icmphdr);
	__u32 check = error + offsetof(struct icmphdr, checksum);
	__u32 inner = difference(&packet->destination, &row->to.source, 2 * sizeof(struct address));
	struct chain chain = {.offset = quoted + sizeof(struct ipv6hdr)};
	__be16 before[2] = {packet->to_port, packet->from_port};
	__be16 after[2] = {row->to.destination_port, row->to.source_port};
	__u8 first;

	if (packet->version == 4) {
		if (bpf_skb_load_bytes(skb, quoted, &first, 1) ||
		    bpf_l3_csum_replace(skb, quoted + offsetof(struct iphdr, check), 0, inner, 0))
			return -1;
		chain.offset = quoted + (first & 15) * 4;
	} else {
		if (bpf_skb_load_bytes(skb, quoted + offsetof(struct ipv6hdr, nexthdr), &chain.protocol, 1) ||
		    skip_extensions(skb, &chain) ||
		    bpf_l4_csum_replace(skb, check, 0, outer, BPF_F_PSEUDO_HDR) ||
		    bpf_l4_csum_replace(skb, check, 0, inner, 0))
			return -1;
	}
	if (bpf_l4_csum_replace(skb, check, 0, difference(before, after, sizeof(before)), 0) ||
	    store_end(skb, quoted, packet->version, 0, &row->to.destination) ||
	    store_end(skb, quoted, packet->version, 1, &row->to.source))
		return -1;
	return bpf_skb_store_bytes(skb, chain.offset, after, sizeof(after), 0);
}

/* The IP header, whose addresses change the sum of their words by `changed`; and what is known of it. */
static __noinline int rewrite_addresses(struct __sk_buff *skb, struct packet *packet, const struct nat *row,
					__u32 changed)
{
	if (packet->version == 4 &&
	    bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), 0, changed, 0))
		return -1;
	if (same_address(&packet->source, &packet->from)) {
		if (store_end(skb, ETH_HLEN, packet->version, 0, &row->to.source))
			return -1;
		packet->source = row->to.source;
	}
	if (store_end(skb, ETH_HLEN, packet->version, 1, &row->to.destination))
		return -1;
	packet->destination = row->to.destination;
	packet->from = row->to.source;
	packet->from_port = row->to.source_port;
	packet->to_port = row->to.destination_port;
	packet->translated = 1;
	return 0;
}

/*
 * Makes the packet, and what is known of it, what its row says. Whoever sends an ICMP error about it stays
 * its source, unless that is the end that is translated.
 */
__global int rewrite(struct __sk_buff *skb, struct packet *packet, const struct nat *row)
{
	__u32 changed;
	int failed = 0;

	if (!packet || !row)
		return -1;
	/* Later fragments are known by the addresses that they come with. */
	if (packet->kind == PACKET_FIRST_FRAGMENT)
		remember_fragment(packet);
	if (same_address(&packet->source, &packet->from))
		changed = difference(&packet->source, &row->to.source, 2 * sizeof(struct address));
	else
		changed = difference(&packet->destination, &row->to.destination, sizeof(struct address));
	if (packet->kind == PACKET_ICMP_ERROR)
		failed = rewrite_quoted(skb, packet, row, changed);
	else if (packet->kind != PACKET_LATER_FRAGMENT)
		failed = rewrite_transport(skb, packet, row, changed);
	return failed ? failed : rewrite_addresses(skb, packet, row, changed);
}

/* How many source ports are tried. */
#define PORT_TRIES 16

static __always_inline __be16 any_port(void)
{
	__u32 ports = config.nat_last - config.nat_first + 1;

	return bpf_htons(config.nat_first + bpf_get_prandom_u32() % ports);
}

/* Whether a connection that is not translated has these ends: they shall not be mistaken for each other. */
__global int is_taken(const struct tuple *ends)
{
	struct flow_key key;
	struct flow *flow;

	if (!ends)
		return true;
	flow_key_of(ends, &key);
	flow = bpf_map_lookup_elem(&flows, &key);
	return flow && !(flow->state & FLOW_TRANSLATED);
}

/*
 * Enters a connection that `client` opens, to what the draft says; its source port may be changed until no
 * other connection has the same ends. DROP_NONE, or why it cannot be.
 */
__global int nat_enter(const struct tuple *client, struct nat_draft *draft)
{
	bool keeps_source, keeps_port;
	long failed = -1;

	if (!client || !draft)
		return DROP_NAT_PORTS;
	keeps_source = same_address(&draft->forward.to.source, &client->source);
	/* Another socket of a pod may come to use the pod's own port to the very same end. */
	keeps_port = keeps_source && !is_own_pods(&client->source);
	draft->reply = draft->forward;
	draft->reply.to = reverse(client);
	draft->reply.reply = 1;
	for (int i = 0; i < PORT_TRIES; i++) {
		draft->forward.to.source_port = keeps_port && !i ? client->source_port : any_port();
		draft->back = reverse(&draft->forward.to);
		if (keeps_source && is_taken(&draft->back))
			continue;
		failed = bpf_map_update_elem(&nat, &draft->back, &draft->reply, BPF_NOEXIST);
		if (!failed || failed == -E2BIG)
			break;
	}
	if (!failed && bpf_map_update_elem(&nat, client, &draft->forward, BPF_ANY)) {
		bpf_map_delete_elem(&nat, &draft->back);
		failed = -E2BIG;
	}
	if (failed)
		return failed == -E2BIG ? DROP_FLOWS_FULL : DROP_NAT_PORTS;
	return DROP_NONE;
}

#endif
