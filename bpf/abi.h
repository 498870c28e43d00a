/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Everything that the programs and crates/datapath both see: rows of maps, events, arguments and
 * the numbers in them. Rust gets these types from the object's BTF, so they are written only here.
 *
 * Rules: pads are explicit, and zero (map keys are compared as bytes); addresses and ports are in
 * network byte order; whoever changes the layout or the meaning of a pinned row raises ABI_VERSION,
 * which is part of the path of every pin.
 */
#ifndef KILTER_ABI_H
#define KILTER_ABI_H

#include <linux/types.h>

enum abi {
	ABI_VERSION = 5,
};

/* Of either family, in network byte order; one of IPv4 in mapped form, ::ffff:a.b.c.d (RFC 4291). */
struct address {
	__u64 half[2];
};

/* How many blocks of a kind there can be, both families together. */
#define BLOCKS 8

struct block {
	struct address network;
	struct address mask;
};

/* Fixed while a program is loaded: lives in .rodata, so the verifier folds it in. */
struct config {
	enum abi abi;
	__u32 uplink;
	__u32 overlay; /* the VXLAN device to other nodes' pods; 0: their blocks are routed as they are */
	__u32 overlay_vni;
	__u32 egress_mark; /* packets of pods to addresses outside the cluster */
	__u32 reset_mark;  /* resets that the programs themselves send into a pod */
	__u32 flow_quota;  /* flow entries that one address of a pod may cause */
	__u32 node_count;  /* how many of each there are below */
	__u32 pods_count;
	__u32 services_count;
	__u32 cluster_count;
	/* Ports of the node's addresses that others hand out; the host's byte order, both included. */
	__u16 nat_first; /* these programs, as the source of translated packets */
	__u16 nat_last;
	__u16 masquerade_first; /* nftables: what arrives there is never a Service's */
	__u16 masquerade_last;
	__u16 overlay_port; /* UDP: packets of the tunnel, never a Service's */
	__u8 gateway_mac[6];
	__u8 retry_refused; /* of Services that say nothing about it: see struct attempt */
	__u8 pad[3];
	struct address node[BLOCKS]; /* this node's own addresses */
	struct block pods[BLOCKS];   /* this node's */
	struct block services[BLOCKS];
	struct block cluster[BLOCKS]; /* all pods' */
};
_Static_assert(sizeof(struct config) == 11 * 4 + 5 * 2 + 10 + BLOCKS * (16 + 3 * 32), "config has no holes");

/* What may change while the programs run: one row. */
struct settings {
	__u32 report_flows; /* whether opened flows are reported, not only drops */
};

/* ---- policy ---------------------------------------------------------------------------------- */

enum direction {
	EGRESS = 0,
	INGRESS = 1,
};

/* The longest prefix wins. Prefixes of IPv4 have 96 bits more, those of the mapped form. */
struct class_key {
	__u32 prefixlen;
	__be32 address[4];
};

struct class_row {
	__u32 class_id; /* 0 only where all of IPv4 has no row: what ::/0 says is not about it */
	__u32 slot;	/* of the generation that changes when this row, or one within it, does */
};

/*
 * Prefixes of 48 + n bits: posture, direction and protocol in full, then n bits of the port. A range
 * of ports is as many rows as it has prefixes; each says the whole range, for reading back.
 */
struct interval_key {
	__u32 prefixlen;
	__be32 posture;
	__u8 direction;
	__u8 protocol; /* 6, 17, 132, or 0 for the rest */
	__be16 port;
};
_Static_assert(sizeof(struct interval_key) == 12, "interval_key has no holes");

struct interval_row {
	__u32 set;
	__u16 first;
	__u16 last;
};

/* 64 bits are the exception of a class, 32 bits are the default: one lookup finds either. */
struct set_key {
	__u32 prefixlen;
	__be32 set;
	__be32 class_id;
};

struct decision {
	__u32 rule;
	__u32 allow; /* 0 or 1 */
};

/* ---- where things are ------------------------------------------------------------------------ */

/* One address of a pod of this node. */
struct endpoint {
	__u32 ifindex; /* host side of its link */
	__u32 slot;    /* its generation, whatever rows its address matches */
	__u32 flows;   /* flow entries it causes, about */
	__u32 counted; /* scratch of the sweep */
	__u8 mac[6];
	__u8 pad[2];
};
_Static_assert(sizeof(struct endpoint) == 24, "endpoint has no holes");

/* Another node; 0 is nobody. With an overlay, this is where its end of the tunnel is. */
struct node {
	struct address next_hop;
};

/* A load balancer's address for which this node answers on the node network. */
struct announced {
	__u8 mac[6]; /* the uplink's */
	__u8 pad[2];
};

/* ---- flows ----------------------------------------------------------------------------------- */

enum end_kind {
	END_POD = 1,	 /* of this node: redirect_peer */
	END_REMOTE = 2,	 /* beyond the uplink: redirect_neigh, or redirect into the tunnel */
	END_NODE = 3,	 /* a socket of this node: the stack */
	END_OUTSIDE = 4, /* whatever else the stack leads to, masqueraded when a pod opened */
};

enum flow_state {
	FLOW_REPLIED = 1, /* both ends have sent */
	FLOW_FIN_0 = 2,	  /* end 0 has sent its last */
	FLOW_FIN_1 = 4,
	FLOW_RESET = 8,
	FLOW_REVOKED = 16, /* policy allows it no longer */
	FLOW_TRANSLATED = 32, /* what goes to the opener is translated first: see struct nat */
	FLOW_ATTEMPT = 64,    /* whom it calls may still refuse: see struct attempt */
	FLOW_SENT_ON = 128,   /* of struct nat: its packets go on to the backend's node as they came */
};

/* A flow has one entry for both directions: the lower address and port are end 0. */
struct flow_key {
	struct address address[2];
	__be16 port[2]; /* an echo's identifier, twice; 0 where there are none */
	__u8 protocol;
	__u8 echo; /* 2 + the end that asks, for ICMP echo; else 0 */
	__u8 pad[2];
};
_Static_assert(sizeof(struct flow_key) == 40, "flow_key has no holes");

struct flow_end {
	__u32 via;  /* END_POD: ifindex of its link; END_REMOTE: its node, 0 asks the routes */
	__u32 slot; /* judged while generations[slot] was generation */
	__u32 generation;
	__u8 mac[6]; /* END_POD */
	__u8 kind;
	__u8 pad;
};

struct flow {
	struct flow_end end[2];
	__u32 seen;    /* last packet, in units of 2^30 ns of the monotonic clock, about */
	__u32 rule[2]; /* that allowed it, by direction; 0 where that side was not judged here */
	__u8 opener;   /* the end that opened it */
	__u8 state;
	__u8 pad[2];
};
_Static_assert(sizeof(struct flow) == 56, "flow has no holes");

/* A fragmented packet's first fragment has told what the others belong to. */
struct fragment_key {
	struct address source;
	struct address destination;
	__be32 id;
	__u8 protocol; /* 0 for IPv6, whose fragments need not agree about it (RFC 8200, 4.5) */
	__u8 pad[3];
};
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key has no holes");

struct fragment {
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 echo; /* 1: a request, 2: a reply, of ICMP echo */
	__u8 pad[2];
};

/* Argument of the sweep program. */
struct sweep {
	struct address purge; /* remove all flows and translations of this address; 0: only those that have aged */
	__u32 now;	      /* in flow.seen's unit */
	__u32 live;
	__u32 removed;
	__u32 translations; /* rows of struct nat that are left */
};

/* ---- services -------------------------------------------------------------------------------- */

enum scope {
	SCOPE_INSIDE = 0,  /* sockets of this node */
	SCOPE_OUTSIDE = 1, /* packets from beyond the uplink */
};

struct frontend {
	struct address address; /* 0.0.0.0 or :: for the nodes' own */
	__be16 port;
	__u8 protocol;
	__u8 scope;
	__u8 pad[4];
};

enum frontend_flag {
	FRONTEND_OWN_NODE = 1, /* of a node port: at this node's addresses only */
	FRONTEND_SILENT = 2,   /* without a backend: drop, do not refuse */
	FRONTEND_RESTRICTED = 4, /* for clients in the ranges of its revision only */
	FRONTEND_RETRIES = 8,	 /* a connection that a backend refuses is carried to another */
	FRONTEND_GIVES_UP = 16,	 /* it is not; neither: as struct config says */
	/*
	 * Direct server return: packets from outside are sent on to a backend's node as they came, which chooses alike.
	 * So nothing that one node alone knows may choose: the row gives up, and has no affinity.
	 */
	FRONTEND_DSR = 32,
	FRONTEND_PLACES_SHIFT = 8, /* above: how many places its table has; 0: none */
};

struct frontend_row {
	__u32 revision;
	__u32 count; /* slots 0 to count - 1 of this revision; none: refuse */
	__u32 flags;
	__u32 affinity; /* seconds for which a client stays with its backend; 0: it does not */
};

/* Part of a table by which clients from outside are sent to slots of a revision. */
#define CHUNK 32
struct chunk_key {
	__u32 revision;
	__u32 chunk; /* place / CHUNK */
};

struct chunk {
	__u32 slot[CHUNK];
};

/* The longest range wins, but all of them mean the same. */
struct source_key {
	__u32 prefixlen; /* 32, and the range's; 96 more for IPv4 */
	__be32 revision;
	__be32 address[4];
};
_Static_assert(sizeof(struct source_key) == 24, "source_key has no holes");

/* The addresses of a network namespace of this node, whose sockets' hooks know it by its cookie. */
struct namespace {
	struct address own[2]; /* IPv4, IPv6; none: :: */
};

struct backend_key {
	__u32 revision;
	__u32 slot;
};

struct backend {
	struct address address;
	__be16 port;
	__u8 pad[6];
};

/* A client of a Service: its address, or the cookie of its namespace on this node and nothing. */
struct affinity_key {
	struct frontend frontend;
	struct address client;
};
_Static_assert(sizeof(struct affinity_key) == 40, "affinity_key has no holes");

struct affinity {
	struct backend backend;
	__u64 until; /* ns of the monotonic clock */
};

/* A packet's ends, in the direction in which it travels. */
struct tuple {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct tuple) == 40, "tuple has no holes");

/*
 * What a packet with a tuple becomes. A connection has two rows, one for each direction; the reverse of
 * what one makes is the key of the other. One that is sent on (FLOW_SENT_ON) has one row, which says to which
 * backend: what that answers does not come by here.
 */
struct nat {
	struct tuple to;
	__u32 revision; /* of the frontend that chose the backend */
	__u32 seen;	/* as in struct flow */
	__u8 state;	/* enum flow_state, of this direction */
	__u8 reply;	/* 1: from the backend to the client */
	__u8 sender[6]; /* of one that is sent on: whose frames its packets come in */
};
_Static_assert(sizeof(struct nat) == 56, "nat has no holes");

/*
 * A connection to a Service that nobody has answered, under the ends that its client knows. Should the backend
 * refuse, the SYN is sent to another.
 */
#define SYN_MOST 60
struct attempt {
	struct frontend frontend;
	__u32 seen;
	__u8 tries;  /* backends that have refused it */
	__u8 length; /* of the SYN's TCP header; 0: it has not been seen */
	__u8 pad[2];
	__u8 syn[SYN_MOST];
	__u8 pad_too[4];
};
_Static_assert(sizeof(struct attempt) == 96, "attempt has no holes");

/* What a socket took for what. */
struct translation {
	struct address service;
	struct address backend;
	__be16 service_port;
	__be16 backend_port;
	__u32 revision;
	__u32 flags; /* of the frontend */
	__u32 pad;
};

/* A datagram socket that is not connected may talk to several Services at once. */
#define DATAGRAM_PEERS 8
struct datagrams {
	struct translation peer[DATAGRAM_PEERS];
	__u32 next;
	__u32 pad;
};

/* ---- what is reported ------------------------------------------------------------------------ */

/* Why a packet is dropped. Keys of the `drops` counters; pinned, so numbers stay. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_POLICY = 1,	   /* a rule, or an isolation, says no */
	DROP_NOT_LOADED = 2,	   /* a policy row is missing */
	DROP_SOURCE_ADDRESS = 3,   /* not the sender's own */
	DROP_SOURCE_MAC = 4,
	DROP_LINK = 5,		   /* neither IP nor a question for the gateway */
	DROP_MALFORMED = 6,
	DROP_NOT_UNICAST = 7,
	DROP_NO_SERVICE = 8,	   /* a Service address that connect() did not translate */
	DROP_NO_ENDPOINT = 9,	   /* this node's block, but no pod */
	DROP_NO_ROUTE = 10,	   /* another node's block, but no route */
	DROP_NO_FLOW = 11,	   /* only a known connection could admit it */
	DROP_WRONG_PATH = 12,	   /* a known connection, but not from there */
	DROP_FRAGMENT = 13,	   /* its first fragment is not known */
	DROP_FLOWS_FULL = 14,
	DROP_QUOTA = 15,	   /* the pod has caused too many flows */
	DROP_REVOKED = 16,	   /* the connection was allowed when it was opened */
	DROP_NO_BACKEND = 17,	   /* a Service without an endpoint for this client */
	DROP_NAT_PORTS = 18,	   /* no source port is left for a translated packet */
	DROP_SOURCE_RANGE = 19,	   /* the Service does not serve this client */
	DROP_TUNNEL = 20,	   /* through the tunnel, or past it, from who is not the source's node */
	DROP_REASONS,
};

enum counter {
	COUNT_FLOWS_OPENED = 0,
	COUNT_EVENTS_LOST = 1,
	COUNT_RESETS = 2, /* sent because policy ended a connection */
	COUNT_RETRIED = 3, /* refused connections that were carried to another backend */
	COUNTERS,
};

enum event_kind {
	EVENT_DROP = 1,
	EVENT_OPEN = 2,
	EVENT_RETRIED = 3, /* of struct retried */
};

struct event {
	__u64 at; /* ns of the monotonic clock */
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 rule; /* 0: none */
	__u32 ifindex;
	__u8 kind;
	__u8 reason;
	__u8 direction;
	__u8 protocol;
};
_Static_assert(sizeof(struct event) == 56, "event has no holes");

/* A connection that its destination refused, and where it went instead. */
struct retried {
	struct event event;
	struct backend to;
};
_Static_assert(sizeof(struct retried) == 80, "retried has no holes");

/* The object's BTF has only what some variable uses; this one is there to use these. */
struct vocabulary {
	enum direction direction;
	enum end_kind end_kind;
	enum flow_state flow_state;
	enum drop_reason drop_reason;
	enum counter counter;
	enum event_kind event_kind;
	enum scope scope;
	enum frontend_flag frontend_flag;
	struct event event;
	struct retried retried;
};

#endif
