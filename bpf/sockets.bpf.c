/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Services, where a socket of this node's cgroup connects or sends: the socket then talks to the
 * backend, and no packet needs translating. The 6 variants see IPv4 addresses in mapped form.
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

static __always_inline bool is_mapped(const struct bpf_sock_addr *ctx)
{
	return !ctx->user_ip6[0] && !ctx->user_ip6[1] && ctx->user_ip6[2] == bpf_htonl(0xffff);
}

static __always_inline struct frontend frontend_of(const struct bpf_sock_addr *ctx, __be32 address)
{
	struct frontend frontend = {
		.address = address,
		.port = ctx->user_port,
		.protocol = ctx->protocol,
	};

	return frontend;
}

/* Returns GO_ON with the address to use instead in `to`, whose port is 0 for none. */
static __always_inline int on_connect(struct bpf_sock_addr *ctx, __be32 address, struct backend *to)
{
	struct frontend frontend = frontend_of(ctx, address);
	struct translation translation;

	switch (translate(&frontend, &translation)) {
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

static __always_inline int on_send(struct bpf_sock_addr *ctx, __be32 address, struct backend *to)
{
	struct frontend frontend = frontend_of(ctx, address);
	struct translation translation;

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
	int verdict = on_connect(ctx, ctx->user_ip4, &to);

	if (to.port) {
		ctx->user_ip4 = to.address;
		ctx->user_port = to.port;
	}
	return verdict;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct backend to = {};
	int verdict;

	if (!is_mapped(ctx))
		return GO_ON;
	verdict = on_connect(ctx, ctx->user_ip6[3], &to);
	if (to.port) {
		ctx->user_ip6[3] = to.address;
		ctx->user_port = to.port;
	}
	return verdict;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct backend to = {};
	int verdict = on_send(ctx, ctx->user_ip4, &to);

	if (to.port) {
		ctx->user_ip4 = to.address;
		ctx->user_port = to.port;
	}
	return verdict;
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct backend to = {};
	int verdict;

	if (!is_mapped(ctx))
		return GO_ON;
	verdict = on_send(ctx, ctx->user_ip6[3], &to);
	if (to.port) {
		ctx->user_ip6[3] = to.address;
		ctx->user_port = to.port;
	}
	return verdict;
}

/* The peer's address, as the kernel has it, becomes the one that the program asked for. */
static __always_inline void show_service4(struct bpf_sock_addr *ctx)
{
	struct backend backend = {.address = ctx->user_ip4, .port = ctx->user_port};
	struct translation *translation = find_translation(ctx, &backend);

	if (translation) {
		ctx->user_ip4 = translation->service;
		ctx->user_port = translation->service_port;
	}
}

static __always_inline void show_service6(struct bpf_sock_addr *ctx)
{
	struct backend backend = {.address = ctx->user_ip6[3], .port = ctx->user_port};
	struct translation *translation;

	if (!is_mapped(ctx))
		return;
	translation = find_translation(ctx, &backend);
	if (translation) {
		ctx->user_ip6[3] = translation->service;
		ctx->user_port = translation->service_port;
	}
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
