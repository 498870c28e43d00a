/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which backend a Service's address stands for, and what a socket took for what. */
#ifndef KILTER_SERVICE_H
#define KILTER_SERVICE_H

#include "affinity.h"
#include "base.h"
#include "ends.h"
#include "refusal.h"
#include "maps.h"
#include "sources.h"

enum choice {
	TRANSLATED,
	NO_SERVICE,
	NO_BACKEND,
};

/* A slot of the frontend's revision, at random; of one that does not refuse, if there is any. */
static __always_inline struct backend *choose_any(const struct frontend *frontend, const struct frontend_row *row)
{
	struct backend_key key = {.revision = row->revision};
	struct backend *backend;
	int willing;

	if (!row->count)
		return NULL;
	key.slot = bpf_get_prandom_u32() % row->count;
	backend = bpf_map_lookup_elem(&backends, &key);
	if (!backend || !is_passed_over(frontend->protocol, row, backend))
		return backend;
	willing = find_willing(row, key.slot, 0);
	if (willing < 0)
		return backend;
	key.slot = willing;
	return bpf_map_lookup_elem(&backends, &key);
}

/* The backend that clients of this namespace had, or any. */
__global int choose(const struct frontend *frontend, const struct frontend_row *row, __u64 namespace,
		    struct translation *translation)
{
	struct affinity_key client = {.client = {{namespace, 0}}};
	struct backend backend = {}, *any;

	if (!frontend || !row || !translation)
		return NO_BACKEND;
	client.frontend = *frontend;
	if (!stay(row, &client, &backend)) {
		any = choose_any(frontend, row);
		if (!any)
			return NO_BACKEND;
		backend = *any;
		remember(row, &client, &backend);
	}
	translation->service = frontend->address;
	translation->service_port = frontend->port;
	translation->backend = backend.address;
	translation->backend_port = backend.port;
	translation->revision = row->revision;
	translation->flags = row->flags;
	return TRANSLATED;
}

/*
 * The row of what a socket asked for: of that very address, or of a port of the nodes. `row->flags` says
 * whether another node's port is this node's to translate.
 */
static __always_inline struct frontend_row *find_frontend(const struct frontend *asked)
{
	struct frontend_row *row = bpf_map_lookup_elem(&frontends, asked);
	struct frontend port = *asked;

	port.address = any_address(&asked->address);
	/* A program that asks for no address means its own loopback. */
	if (same_address(&port.address, &asked->address))
		return NULL;
	if (row)
		return row;
	row = bpf_map_lookup_elem(&frontends, &port);
	if (!row || is_own_node(&asked->address))
		return row;
	return !(row->flags & FRONTEND_OWN_NODE) && is_other_node(&asked->address) ? row : NULL;
}

/* What lies in the Service block and is none is refused here: no packet could be answered. */
static __always_inline enum choice unknown(const struct frontend *frontend)
{
	return in_services(&frontend->address) ? NO_BACKEND : NO_SERVICE;
}

/* `namespace`: the cookie of the socket's. */
static __noinline int translate(const struct frontend *frontend, __u64 namespace, struct translation *translation)
{
	struct frontend_row *row;

	/* Twice: a frontend that moves to another revision between the two lookups has moved by now. */
	for (int i = 0; i < 2; i++) {
		row = find_frontend(frontend);
		if (!row)
			return unknown(frontend);
		if (!may_use(frontend, row, namespace))
			return NO_BACKEND;
		if (choose(frontend, row, namespace, translation) == TRANSLATED)
			return TRANSLATED;
	}
	return NO_BACKEND;
}

static __always_inline void forget(struct bpf_sock_addr *ctx)
{
	if (ctx->sk && bpf_sk_storage_get(&connected, ctx->sk, NULL, 0))
		bpf_sk_storage_delete(&connected, ctx->sk);
}

static __always_inline bool remember_connected(struct bpf_sock_addr *ctx, const struct translation *translation)
{
	struct translation *kept;

	if (!ctx->sk)
		return false;
	kept = bpf_sk_storage_get(&connected, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return false;
	*kept = *translation;
	return true;
}

/* The backend that this socket already uses for this frontend, while the frontend is unchanged. */
static __always_inline struct translation *known_datagram(struct datagrams *peers, const struct frontend *frontend,
							  __u32 revision)
{
	for (int i = 0; i < DATAGRAM_PEERS; i++) {
		struct translation *peer = &peers->peer[i];

		if (peer->revision == revision && same_address(&peer->service, &frontend->address) &&
		    peer->service_port == frontend->port)
			return peer;
	}
	return NULL;
}

/* Per datagram, but a socket stays with a backend as long as the Service is as it was. */
static __always_inline int translate_datagram(struct bpf_sock_addr *ctx, const struct frontend *frontend,
					      struct translation *translation)
{
	struct frontend_row *row = find_frontend(frontend);
	struct translation *known;
	struct datagrams *peers;
	int choice;

	if (!row)
		return unknown(frontend);
	if (!ctx->sk)
		return NO_BACKEND;
	peers = bpf_sk_storage_get(&datagrams, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!peers)
		return NO_BACKEND;
	known = known_datagram(peers, frontend, row->revision);
	if (known) {
		*translation = *known;
		return TRANSLATED;
	}
	choice = translate(frontend, bpf_get_netns_cookie(ctx), translation);
	if (choice == TRANSLATED)
		peers->peer[peers->next++ % DATAGRAM_PEERS] = *translation;
	return choice;
}

static __always_inline bool stands_for(const struct translation *translation, const struct backend *backend)
{
	return same_address(&translation->backend, &backend->address) && translation->backend_port == backend->port;
}

/* The newest translation to this backend, of a connected socket or of one that is not. */
static __always_inline struct translation *find_translation(struct bpf_sock_addr *ctx, const struct backend *backend)
{
	struct translation *translation;
	struct datagrams *peers;

	if (!ctx->sk)
		return NULL;
	translation = bpf_sk_storage_get(&connected, ctx->sk, NULL, 0);
	if (translation && stands_for(translation, backend))
		return translation;
	peers = bpf_sk_storage_get(&datagrams, ctx->sk, NULL, 0);
	if (!peers)
		return NULL;
	for (__u32 i = 1; i <= DATAGRAM_PEERS; i++) {
		translation = &peers->peer[(peers->next - i) % DATAGRAM_PEERS];
		if (stands_for(translation, backend))
			return translation;
	}
	return NULL;
}

#endif
