/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * All maps (the room that lib/retry.h works in is there). Sizes of 1 are set by the loader before the maps are made. Tries allocate a node per
 * row, so their limits are far away and cost nothing; a lookup happens once per flow.
 */
#ifndef KILTER_MAPS_H
#define KILTER_MAPS_H

#include "base.h"

#define TRIE_ROWS (1 << 24)
#define GENERATION_SLOTS (1 << 16)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(max_entries, 1);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct class_key);
	__type(value, struct class_row);
	__uint(max_entries, TRIE_ROWS);
} classes SEC(".maps");

/* Address of a pod of this node -> its posture. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
	__uint(max_entries, 1);
} postures SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct interval_key);
	__type(value, struct interval_row);
	__uint(max_entries, TRIE_ROWS);
} intervals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct set_key);
	__type(value, struct decision);
	__uint(max_entries, TRIE_ROWS);
} sets SEC(".maps");

/* Slot 0 is for addresses that match no class row. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, GENERATION_SLOTS);
} generations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct endpoint);
	__uint(max_entries, 1);
} endpoints SEC(".maps");

/* Pod block of another node -> index in nodes. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct class_key);
	__type(value, __u32);
	__uint(max_entries, TRIE_ROWS);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct node);
	__uint(max_entries, 1);
} nodes SEC(".maps");

/* Load balancers' addresses (prefixes of 128 bits) for which this node answers. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct class_key);
	__type(value, struct announced);
	__uint(max_entries, TRIE_ROWS);
} announced SEC(".maps");

/* Not an LRU: that would never say that it is full, and evict connections that live. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, 1);
} flows SEC(".maps");

/* An LRU: what is forgotten here costs one packet, which its sender repeats. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(max_entries, 2048);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct frontend);
	__type(value, struct frontend_row);
	__uint(max_entries, 1);
} frontends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend_key);
	__type(value, struct backend);
	__uint(max_entries, 1);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct chunk_key);
	__type(value, struct chunk);
	__uint(max_entries, 1);
} chunks SEC(".maps");

/* Ranges of clients, of frontends that have some: whatever the row says, it is there. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_key);
	__type(value, __u32);
	__uint(max_entries, TRIE_ROWS);
} sources SEC(".maps");

/* By the namespace's cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct namespace);
	__uint(max_entries, 1);
} namespaces SEC(".maps");

/* Not an LRU: an LRU's rows are all made beforehand, on every node. The sweep removes those that have aged. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
	__uint(max_entries, 65536);
} affinities SEC(".maps");

/* Two rows a translated connection. Not an LRU, for the reason of flows. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tuple);
	__type(value, struct nat);
	__uint(max_entries, 1);
} nat SEC(".maps");

/* The rows of a connection that is about to be entered: they are more than the stack has room for. */
struct nat_draft {
	struct nat forward;
	struct nat reply;
	struct tuple back;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct nat_draft);
	__uint(max_entries, 1);
} nat_drafts SEC(".maps");

/* Rows are there from connect() to the first answer. Who finds it full is not carried elsewhere. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tuple);
	__type(value, struct attempt);
	__uint(max_entries, 16384);
} attempts SEC(".maps");

/* Backends that have refused a connection -> until when new ones pass them over, in ns of the monotonic clock. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend);
	__type(value, __u64);
	__uint(max_entries, 4096);
} refusing SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct translation);
} connected SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct datagrams);
} datagrams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32); /* enum drop_reason */
	__type(value, __u64);
	__uint(max_entries, DROP_REASONS);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32); /* enum counter */
	__type(value, __u64);
	__uint(max_entries, COUNTERS);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

#endif
