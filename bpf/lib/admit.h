/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The slow path that the hooks share: a flow that is new, and one that must be judged again. */
#ifndef KILTER_ADMIT_H
#define KILTER_ADMIT_H

#include "base.h"
#include "event.h"
#include "flow.h"
#include "policy.h"

/*
 * Whether a packet without an entry may be the beginning of one; DROP_NONE, or why not. TCP in the
 * middle may: tables were lost, or an entry aged. It is judged in the packet's own direction, so it
 * cannot pose as a reply.
 */
static __always_inline int may_begin(const struct packet *packet)
{
	if (packet->kind == PACKET_ICMP_ERROR || packet->echo == ECHO_REPLY)
		return DROP_NO_FLOW;
	if ((packet->tcp_flags & TCP_RST) || (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		return DROP_NO_FLOW;
	return DROP_NONE;
}

/* A reset that comes late, or an error about nothing, is no finding. */
static __always_inline int drop_unknown(struct __sk_buff *skb, const struct packet *packet,
					enum direction direction)
{
	if (packet->kind == PACKET_ICMP_ERROR || (packet->tcp_flags & TCP_RST))
		return drop_quietly(DROP_NO_FLOW);
	return drop(skb, packet, DROP_NO_FLOW, direction);
}

static __always_inline bool flows_are_reported(void)
{
	__u32 zero = 0;
	struct settings *row = bpf_map_lookup_elem(&settings, &zero);

	return row && row->report_flows;
}

static __always_inline void tell_opened(struct __sk_buff *skb, const struct packet *packet,
					const struct verdict *verdict)
{
	struct report report = {
		.kind = EVENT_OPEN,
		.direction = verdict->direction,
		.rule = verdict->rule,
	};

	tell(skb, packet, &report);
}

/*
 * Judges a new flow, whose ends and opener are filled in, and enters it, for `owner` (see
 * flow_insert). Returns 0, or DROP after having counted and told why.
 */
__global int admit(struct __sk_buff *skb, const struct packet *packet, const struct flow_key *key,
		   struct flow *flow, struct endpoint *owner)
{
	struct verdict verdict = {.reason = DROP_NOT_LOADED};
	int reason;

	if (!packet || !key || !flow || !owner)
		return DROP;
	judge(key, flow, &verdict);
	if (verdict.reason) {
		/* Without a SYN it may as well be a leftover of a connection that policy ended. */
		if (packet->protocol == IPPROTO_TCP && !opens(packet))
			return drop_by(skb, packet, DROP_NO_FLOW, verdict.direction, verdict.rule);
		return drop_by(skb, packet, verdict.reason, verdict.direction, verdict.rule);
	}
	reason = flow_insert(key, flow, owner);
	if (reason)
		return drop(skb, packet, reason, verdict.direction);
	if (flows_are_reported())
		tell_opened(skb, packet, &verdict);
	return 0;
}

/* Judges a known flow again. The entry then holds the new verdict and what it rests on. */
__global int judge_again(const struct flow_key *key, struct flow *flow)
{
	struct verdict verdict = {.reason = DROP_NOT_LOADED};
	struct flow fresh;

	if (!key || !flow)
		return 0;
	fresh = *flow;
	judge(key, &fresh, &verdict);
	if (verdict.reason) {
		fresh.rule[verdict.direction & 1] = verdict.rule;
		fresh.rule[other(verdict.direction)] = 0;
	}
	for (int i = 0; i < 2; i++) {
		flow->end[i].slot = fresh.end[i].slot;
		flow->end[i].generation = fresh.end[i].generation;
		flow->rule[i] = fresh.rule[i];
	}
	if (verdict.reason)
		flow->state |= FLOW_REVOKED;
	else
		flow->state &= ~FLOW_REVOKED;
	return 0;
}

/* Whether the fast path may take it: the rest is for the slow one to see. */
static __always_inline bool flow_allows(const struct flow *flow)
{
	return !(flow->state & (FLOW_REVOKED | FLOW_TRANSLATED | FLOW_ATTEMPT)) && flow_current(flow);
}

/* The part of the slow path for a packet of a known flow; whether the flow (still) allows it. */
static __always_inline bool flow_allows_now(const struct flow_key *key, struct flow *flow)
{
	if (!flow_current(flow))
		judge_again(key, flow);
	return !(flow->state & FLOW_REVOKED);
}

/* Counts and tells that policy has ended a connection; what becomes of the packet is the caller's. */
static __always_inline void tell_revoked(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow)
{
	enum direction direction = flow->rule[INGRESS] ? INGRESS : EGRESS;

	drop_by(skb, packet, DROP_REVOKED, direction, flow->rule[direction]);
}

#endif
