/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* All programs as one object: they share their maps, and are loaded and replaced together. */
#include "overlay.bpf.c"
#include "pod.bpf.c"
#include "sockets.bpf.c"
#include "sweep.bpf.c"
#include "uplink.bpf.c"

char LICENSE[] SEC("license") = "GPL";
