/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Services, where a socket of this node's cgroup connects or sends: the socket then talks to the
 * backend, and no packet needs translating. Sockets of IPv6 write IPv4 in mapped form, as rows do.
 */
#include "lib/base.h"
#include "lib/service.h"

/* Programs of this kind return 1 to go on; 0 refuses, with the error that was set. */
#define GO_ON 1

static __always_inline int refuse(void)
{
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

/* The address of the other end, as the hooks of each family have it. */
static __always_inline struct address peer4(const struct bpf_sock_addr *ctx)
{
	return mapped(ctx->user_ip4);
}

static __always_inline struct address peer6(const struct bpf_sock_addr *ctx)
{
	__be32 word[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
	struct address address;

	__builtin_memcpy(&address, word, sizeof(address));
	return address;
}

static __always_inline void set_peer4(struct bpf_sock_addr *ctx, const struct address *address, __be16 port)
{
	ctx->user_ip4 = unmapped(address);
	ctx->user_port = port;
}

static __always_inline void set_peer6(struct bpf_sock_addr *ctx, const struct address *address, __be16 port)
{
	__be32 word[4];

	__builtin_memcpy(word, address, sizeof(word));
	ctx->user_ip6[0] = word[0];
	ctx->user_ip6[1] = word[1];
	ctx->user_ip6[2] = word[2];
	ctx->user_ip6[3] = word[3];
	ctx->user_port = port;
}

static __always_inline struct frontend frontend_of(const struct bpf_sock_addr *ctx, struct address address)
{
	struct frontend frontend = {
		.address = address,
		.port = ctx->user_port,
		.protocol = ctx->protocol,
	};

	return frontend;
}

/* The ends of a TCP socket that connects. */
static __always_inline struct tuple ends_of(const struct bpf_sock_ops *ctx)
{
	struct tuple ends = {
		.source_port = bpf_htons(ctx->local_port),
		.destination_port = bpf_htons(bpf_ntohl(ctx->remote_port)),
		.protocol = IPPROTO_TCP,
	};
	__be32 local[4], remote[4];

	if (ctx->family == AF_INET) {
		ends.source = mapped(ctx->local_ip4);
		ends.destination = mapped(ctx->remote_ip4);
		return ends;
	}
	for (int i = 0; i < 4; i++) {
		local[i] = ctx->local_ip6[i];
		remote[i] = ctx->remote_ip6[i];
	}
	__builtin_memcpy(&ends.source, local, sizeof(local));
	__builtin_memcpy(&ends.destination, remote, sizeof(remote));
	return ends;
}

/*
 * A pod's socket is about to send its SYN, and has its port by now. Should the backend refuse, the packets' hooks
 * must know that it was one.
 */
static __always_inline void on_syn(struct bpf_sock_ops *ctx)
{
	struct tuple ends = ends_of(ctx);
	struct attempt attempt = {.frontend = {.protocol = IPPROTO_TCP}};
	struct translation *translation = NULL;

	if (!is_own_pods(&ends.source))
		return;
	if (ctx->sk)
		translation = bpf_sk_storage_get(&connected, ctx->sk, NULL, 0);
	/* What a former socket with these ends has left is none of this one's. */
	if (!translation || !retries(IPPROTO_TCP, translation->flags)) {
		bpf_map_delete_elem(&attempts, &ends);
		return;
	}
	attempt.frontend.address = translation->service;
	attempt.frontend.port = translation->service_port;
	attempt.seen = clock_now();
	bpf_map_update_elem(&attempts, &ends, &attempt, BPF_ANY);
}

/* Returns GO_ON with the address to use instead in `to`, whose port is 0 for none. */
static __always_inline int on_connect(struct bpf_sock_addr *ctx, struct address address, struct backend *to)
{
	struct frontend frontend = frontend_of(ctx, address);
	struct translation translation = {};

	switch (translate(&frontend, bpf_get_netns_cookie(ctx), &translation)) {
	case NO_SERVICE:
		forget(ctx);
		return GO_ON;
	case NO_BACKEND:
		return refuse();
	default:
		break;
	}
	if (!remember_connected(ctx, &translation))
		return refuse();
	to->address = translation.backend;
	to->port = translation.backend_port;
	return GO_ON;
}

static __always_inline int on_send(struct bpf_sock_addr *ctx, struct address address, struct backend *to)
{
	struct frontend frontend = frontend_of(ctx, address);
	struct translation translation = {};

	switch (translate_datagram(ctx, &frontend, &translation)) {
	case NO_SERVICE:
		return GO_ON;
	case NO_BACKEND:
		return refuse();
	default:
		break;
	}
	to->address = translation.backend;
	to->port = translation.backend_port;
	return GO_ON;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct backend to = {};
	int verdict = on_connect(ctx, peer4(ctx), &to);

	if (to.port)
		set_peer4(ctx, &to.address, to.port);
	return verdict;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct backend to = {};
	int verdict = on_connect(ctx, peer6(ctx), &to);

	if (to.port)
		set_peer6(ctx, &to.address, to.port);
	return verdict;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct backend to = {};
	int verdict = on_send(ctx, peer4(ctx), &to);

	if (to.port)
		set_peer4(ctx, &to.address, to.port);
	return verdict;
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct backend to = {};
	int verdict = on_send(ctx, peer6(ctx), &to);

	if (to.port)
		set_peer6(ctx, &to.address, to.port);
	return verdict;
}

/* The peer's address, as the kernel has it, becomes the one that the program asked for. */
static __always_inline void show_service4(struct bpf_sock_addr *ctx)
{
	struct backend backend = {.address = peer4(ctx), .port = ctx->user_port};
	struct translation *translation = find_translation(ctx, &backend);

	if (translation)
		set_peer4(ctx, &translation->service, translation->service_port);
}

static __always_inline void show_service6(struct bpf_sock_addr *ctx)
{
	struct backend backend = {.address = peer6(ctx), .port = ctx->user_port};
	struct translation *translation = find_translation(ctx, &backend);

	if (translation)
		set_peer6(ctx, &translation->service, translation->service_port);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	show_service4(ctx);
	return GO_ON;
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	show_service6(ctx);
	return GO_ON;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	show_service4(ctx);
	return GO_ON;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	show_service6(ctx);
	return GO_ON;
}

SEC("sockops")
int on_tcp(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		on_syn(ctx);
	return GO_ON;
}
