#!/usr/bin/env python3
"""Writes src/protobuf/schema.txt: the field numbers of the Kubernetes messages that this server reads.

usage: protobuf_schema.py API_REPOSITORY APIMACHINERY_REPOSITORY > ../src/protobuf/schema.txt

Both are Git directories of k8s.io/api and k8s.io/apimachinery; HEAD is read. Numbers, types and names
come from the generated.proto files, what is optional or inlined in JSON from the Go struct tags.
"""

import re
import subprocess
import sys

PACKAGES = ["core", "apps", "batch", "networking", "discovery", "policy", "rbac", "coordination", "scheduling",
            "storage", "events"]
ROOTS = """core: Namespace Node Pod Service Event ConfigMap Endpoints LimitRange PersistentVolume
PersistentVolumeClaim ReplicationController ResourceQuota Secret ServiceAccount Binding
apps: Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision
batch: Job CronJob
networking: NetworkPolicy Ingress IngressClass
discovery: EndpointSlice
policy: PodDisruptionBudget Eviction
rbac: Role RoleBinding ClusterRole ClusterRoleBinding
coordination: Lease
scheduling: PriorityClass
storage: StorageClass
events: Event
autoscaling: Scale
meta: DeleteOptions"""
FIELD = re.compile(r"(optional|repeated)\s+([\w.]+)\s+(\w+)\s*=\s*(\d+)")
MAP = re.compile(r"map<\s*string,\s*([\w.]+)>\s+(\w+)\s*=\s*(\d+)")


def show(repo, path):
    return subprocess.run(["git", "-C", repo, "show", f"HEAD:{path}"], check=True, capture_output=True, text=True).stdout


def listing(repo, folder):
    out = subprocess.run(["git", "-C", repo, "ls-tree", "--name-only", "HEAD", folder + "/"], check=True,
                         capture_output=True, text=True).stdout
    return [f for f in out.split() if f.endswith(".go") and "_test" not in f and "zz_" not in f and ".pb." not in f]


def short(name, package):
    if "." not in name:
        return name if name in SCALARS else f"{package}.{name}"
    for full, alias in [("k8s.io.apimachinery.pkg.apis.meta.v1.", "meta.v1."),
                        ("k8s.io.apimachinery.pkg.api.resource.", "resource."),
                        ("k8s.io.apimachinery.pkg.util.intstr.", "intstr."),
                        ("k8s.io.apimachinery.pkg.runtime.", "runtime."), ("k8s.io.api.", "")]:
        name = name.removeprefix(".")
        if name.startswith(full):
            return alias + name[len(full):]
    return f"{package}.{name}"


SCALARS = {"string", "bytes", "bool", "int32", "int64", "double"}


def go_tags(repo, folder):
    """(struct, protobuf name) -> (json name or None where inlined, whether a pointer)"""
    tags = {}
    for path in listing(repo, folder):
        struct = None
        for line in show(repo, path).splitlines():
            if m := re.match(r"type (\w+) struct", line):
                struct = m[1]
            m = re.match(r"\s+(?:\w+\s+)?(\S+)\s+`(.*)`", line)
            if not (struct and m):
                continue
            json, proto = re.search(r'json:"([^"]*)"', m[2]), re.search(r'protobuf:"[^"]*name=(\w+)', m[2])
            if json and not proto and "protobuf:" in m[2]:
                # An embedded struct whose tag leaves out what go-to-protobuf makes of its type.
                embedded = m[1].split(".")[-1]
                proto = [None, embedded[0].lower() + embedded[1:]]
            if json and proto:
                # A field without a name of its own is inlined in its parent's JSON.
                tags[struct, proto[1]] = (json[1].split(",")[0] or None, m[1].startswith("*"))
    return tags


def messages(repo, folder, package):
    tags, found, name = go_tags(repo, folder), {}, None
    for line in show(repo, folder + "/generated.proto").splitlines():
        line = line.strip()
        if m := re.match(r"message (\w+) \{", line):
            name = m[1]
            found[f"{package}.{name}"] = []
        elif name and (m := MAP.match(line)):
            kind, field, number, mark = short(m[1], package), m[2], m[3], "%"
        elif name and (m := FIELD.match(line)):
            kind, field, number, mark = short(m[2], package), m[3], m[4], "*" if m[1] == "repeated" else ""
        if not (name and m) or line.startswith("message"):
            continue
        json, pointer = tags.get((name, field), (field, False))
        if json is None:
            json, mark = "-", "^"
        elif pointer and not mark:
            mark = "?"
        found[f"{package}.{name}"].append((int(number), mark, json, kind))
    return found


def main():
    api, machinery = sys.argv[1:]
    every = messages(machinery, "pkg/apis/meta/v1", "meta.v1")
    for package in PACKAGES:
        every |= messages(api, f"{package}/v1", f"{package}.v1")
    every |= messages(api, "autoscaling/v1", "autoscaling.v1") | messages(api, "autoscaling/v2", "autoscaling.v2")
    todo = ["autoscaling.v2.HorizontalPodAutoscaler"]
    for line in ROOTS.replace("\n", " ").split():
        if line.endswith(":"):
            package = line[:-1]
        else:
            todo.append(f"{package}.v1.{line}")
    seen = set()
    while todo:
        name = todo.pop()
        if name in seen or name not in every:
            continue
        seen.add(name)
        todo += [kind for _, _, _, kind in every[name]]
    print("# Made by tools/protobuf_schema.py: NUMBER MARK JSON-NAME TYPE.")
    print("# Marks: = plain, ? pointer (zero is kept), * repeated, % map from string, ^ inlined.")
    for name in sorted(seen):
        print(name)
        for number, mark, json, kind in sorted(every[name]):
            print(f"{number} {mark or '='} {json} {kind}")


main()
