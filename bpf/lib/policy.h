/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The verdict on a flow. Address -> class (of the peer); address -> posture (of the pod); posture,
 * direction, protocol, port -> set; set, class -> decision. No row means no.
 *
 * Userspace writes rows first and bumps the generation of what they change after; here generations
 * are read first and rows after. So a verdict that saw an old row carries an old generation, and the
 * next packet asks again.
 */
#ifndef KILTER_POLICY_H
#define KILTER_POLICY_H

#include "base.h"
#include "ends.h"
#include "flow.h"
#include "maps.h"

struct verdict {
	__u32 rule;
	__u8 reason; /* DROP_NONE: allowed */
	__u8 direction;
	__u8 pad[2];
};

static __always_inline __u32 generation(__u32 slot)
{
	__u32 *value = bpf_map_lookup_elem(&generations, &slot);

	return value ? *value : 0;
}

static __always_inline struct class_row *class_of(const struct address *address)
{
	struct class_key key = host_key(address);

	return bpf_map_lookup_elem(&classes, &key);
}

static __always_inline __u8 protocol_class(__u8 protocol)
{
	return has_ports(protocol) ? protocol : 0;
}

/* What is asked of one pod. */
struct question {
	const struct address *pod;
	__u32 class_id; /* of its peer */
	__be16 port;
	__u8 protocol;
	__u8 direction;
};

static __noinline int decide(const struct question *question, struct verdict *verdict)
{
	struct interval_key interval = {.prefixlen = 64};
	struct set_key set = {.prefixlen = 64};
	struct interval_row *row;
	struct decision *decision;
	__u32 *posture;

	verdict->rule = 0;
	verdict->direction = question->direction;
	verdict->reason = DROP_NOT_LOADED;
	posture = bpf_map_lookup_elem(&postures, question->pod);
	/* Without a class, not even the default of a set holds. */
	if (!posture || !question->class_id)
		return 0;
	interval.posture = bpf_htonl(*posture);
	interval.direction = question->direction;
	interval.protocol = protocol_class(question->protocol);
	interval.port = interval.protocol ? question->port : 0;
	row = bpf_map_lookup_elem(&intervals, &interval);
	if (!row)
		return 0;
	set.set = bpf_htonl(row->set);
	set.class_id = bpf_htonl(question->class_id);
	decision = bpf_map_lookup_elem(&sets, &set);
	if (!decision)
		return 0;
	verdict->rule = decision->rule;
	verdict->reason = decision->allow ? DROP_NONE : DROP_POLICY;
	return 0;
}

/*
 * Notes the slot and generation of one end, and returns its class; 0, which no class has, when no row
 * matches. A pod of this node has a slot of its own, in its endpoint; for others the row names
 * the slot, so it is read again after the generation.
 */
static __always_inline __u32 judge_end(struct flow_end *end, const struct address *address)
{
	struct class_row *row = NULL;

	if (end->kind != END_POD) {
		row = class_of(address);
		end->slot = row ? row->slot : 0;
	}
	end->generation = generation(end->slot);
	row = class_of(address);
	if (end->kind != END_POD && (row ? row->slot : 0) != end->slot)
		/* The row changed in between: a generation that is never current makes us ask again. */
		end->generation--;
	return row ? row->class_id : 0;
}

static __always_inline int judge_once(const struct flow_key *key, struct flow *flow, struct verdict *verdict)
{
	__u32 opener = flow->opener & 1, called = other(opener);
	__u32 opener_class = judge_end(&flow->end[opener], &key->address[opener]);
	__u32 called_class = judge_end(&flow->end[called], &key->address[called]);
	struct question question = {.port = key->port[called], .protocol = key->protocol};

	verdict->reason = DROP_NONE;
	flow->rule[EGRESS] = flow->rule[INGRESS] = 0;
	if (flow->end[opener].kind == END_POD) {
		question.direction = EGRESS;
		question.pod = &key->address[opener];
		question.class_id = called_class;
		decide(&question, verdict);
		if (verdict->reason)
			return 0;
		flow->rule[EGRESS] = verdict->rule;
	}
	/* Sockets of its own node always reach a pod: the kubelet's probes must. */
	if (flow->end[called].kind == END_POD && flow->end[opener].kind != END_NODE) {
		question.direction = INGRESS;
		question.pod = &key->address[called];
		question.class_id = opener_class;
		decide(&question, verdict);
		if (verdict->reason)
			return 0;
		flow->rule[INGRESS] = verdict->rule;
	}
	return 0;
}

/*
 * Judges a flow in its opener's direction: the opener's egress if it is a pod of this node, the
 * other's ingress if that is one. Fills generations and rules.
 */
__global int judge(const struct flow_key *key, struct flow *flow, struct verdict *verdict)
{
	if (!key || !flow || !verdict)
		return 0;
	judge_once(key, flow, verdict);
	/*
	 * A row may go between two lookups, when its pod moves to another posture; then the new
	 * posture's rows are complete. What is missing still is really missing.
	 */
	if (verdict->reason == DROP_NOT_LOADED)
		judge_once(key, flow, verdict);
	return 0;
}

#endif
