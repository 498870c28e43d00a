"""Kubernetes' own Python client against the server: creates, patches, watches, deletes.

Called by python.rs with a kubeconfig; prints one line of JSON with what it saw."""

import json
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

NAMESPACE = "snakes"


def seen_by_watch(api, done, into):
    """Names and types of events, until the last object is gone."""
    follow = watch.Watch()
    for event in follow.stream(api.list_namespaced_config_map, NAMESPACE, timeout_seconds=60):
        into.append([event["type"], event["object"].metadata.name])
        if event["type"] == "DELETED" and event["object"].metadata.name == done:
            follow.stop()


def refused(call):
    try:
        call()
    except ApiException as error:
        return [error.status, json.loads(error.body)["reason"]]
    return [200, ""]


def main(kubeconfig):
    config.load_kube_config(kubeconfig)
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    out = {"version": client.VersionApi().get_code().git_version}
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))

    events = []
    watcher = threading.Thread(target=seen_by_watch, args=(core, "last", events))
    watcher.start()
    for name in ("first", "last"):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"n": name}), data={"k": "1"})
        core.create_namespaced_config_map(NAMESPACE, body, field_manager="python")
    out["strategic"] = core.patch_namespaced_config_map("first", NAMESPACE, {"data": {"k": "2"}}).data
    out["selected"] = [m.metadata.name for m in core.list_namespaced_config_map(NAMESPACE, label_selector="n in (last)").items]
    page = core.list_namespaced_config_map(NAMESPACE, limit=1)
    rest = core.list_namespaced_config_map(NAMESPACE, limit=1, _continue=page.metadata._continue)
    out["pages"] = [m.metadata.name for m in page.items + rest.items]

    container = client.V1Container(name="web", image="shop/web:1", ports=[client.V1ContainerPort(container_port=80)])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=client.V1PodSpec(containers=[container]))
    deployment = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1DeploymentSpec(
            replicas=1, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template))
    made = apps.create_namespaced_deployment(NAMESPACE, deployment)
    out["defaulted"] = [made.spec.strategy.type, made.spec.template.spec.containers[0].ports[0].protocol]
    made.spec.replicas = 3
    out["replaced"] = apps.replace_namespaced_deployment("web", NAMESPACE, made).spec.replicas
    out["stale"] = refused(lambda: apps.replace_namespaced_deployment("web", NAMESPACE, made))
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    out["scaled"] = apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas
    made.metadata.resource_version = None
    made.spec.selector.match_labels = {"app": "other"}
    out["immutable"] = refused(lambda: apps.replace_namespaced_deployment("web", NAMESPACE, made))
    out["absent"] = refused(lambda: core.read_namespaced_config_map("none", NAMESPACE))
    out["twice"] = refused(lambda: core.create_namespaced_config_map(NAMESPACE, body))

    # The dynamic client reads discovery.
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"}}
    maps.server_side_apply(body=applied, namespace=NAMESPACE, name="applied", field_manager="python")
    out["applied"] = maps.get(name="applied", namespace=NAMESPACE).metadata.managedFields[0].operation

    core.delete_namespaced_config_map("first", NAMESPACE)
    core.delete_namespaced_config_map("last", NAMESPACE)
    watcher.join(timeout=60)
    out["watched"] = [event for event in events if event[1] in ("first", "last")]
    core.delete_namespace(NAMESPACE)
    print(json.dumps(out))


main(sys.argv[1])
