"""pykube-ng does real work: objects, patches, selectors, watches, scale, logs, tables, custom kinds."""

import os
from importlib.metadata import version as version_of

import pykube
from steps import eventually, finish, step, step_of_pods

NAMESPACE = "pykube"
api = pykube.HTTPClient(pykube.KubeConfig.from_file(os.environ["KUBECONFIG"]))


def config_map(name, **data):
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"group": "pykube"}}
    return pykube.ConfigMap(api, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


@step("create, get, update, patch, delete")
def crud():
    pykube.Namespace(api, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).create()
    one = config_map("one", a="1")
    assert not one.exists()
    one.create()
    one.obj["data"]["b"] = "1"
    one.update()
    one.patch({"data": {"c": "1"}})
    one.reload()
    assert one.obj["data"] == {"a": "1", "b": "1", "c": "1"}
    one.annotations["note"] = "x"
    one.update()
    assert pykube.ConfigMap.objects(api, namespace=NAMESPACE).get_by_name("one").annotations["note"] == "x"
    try:
        config_map("one").create()
        raise AssertionError("it was made twice")
    except pykube.exceptions.HTTPError as error:
        assert error.code == 409 and 'configmaps "one" already exists' in str(error), error


@step("lists by selectors, and a table")
def lists():
    config_map("two").create()
    found = pykube.ConfigMap.objects(api).filter(namespace=NAMESPACE, selector={"group": "pykube"})
    assert sorted(item.name for item in found) == ["one", "two"]
    by_field = pykube.ConfigMap.objects(api).filter(namespace=NAMESPACE, field_selector={"metadata.name": "two"})
    assert [item.name for item in by_field] == ["two"]
    table = pykube.ConfigMap.objects(api).filter(namespace=NAMESPACE, selector="group=pykube").as_table()
    assert [column["name"] for column in table.columns] == ["Name", "Data", "Age"], table.columns
    assert len(table.rows) == 2


@step("a watch")
def watch():
    one = pykube.ConfigMap.objects(api, namespace=NAMESPACE).get_by_name("one")
    events = []
    for event in pykube.ConfigMap.objects(api).filter(namespace=NAMESPACE, selector="group=pykube").watch():
        events.append((event.type, event.object.name))
        if len(events) == 2:
            one.delete()
        if event.type == "DELETED":
            break
    assert sorted(events[:2]) == [("ADDED", "one"), ("ADDED", "two")], events
    assert events[2:] == [("DELETED", "one")], events


@step("a kind that is found by discovery, and scale")
def by_discovery():
    assert any(resource["name"] == "deployments/scale" for resource in api.resource_list("apps/v1")["resources"])
    policy = pykube.object_factory(api, "networking.k8s.io/v1", "NetworkPolicy")
    metadata = {"name": "closed", "namespace": NAMESPACE}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    policy(api, {**kind, "metadata": metadata, "spec": {"podSelector": {}}}).create()
    assert [item.name for item in policy.objects(api, namespace=NAMESPACE)] == ["closed"]
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "myapp:1.2.0"}]}}
    spec = {"replicas": 0, "paused": True, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "web", "namespace": NAMESPACE}
    web = pykube.Deployment(api, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    web.create()
    # It answers once the controller has seen the change.
    web.scale(replicas=0)
    assert web.replicas == 0


@step_of_pods("a pod's log")
def logs():
    spec = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "web", "image": "myapp:1.2.0"}]}
    metadata = {"name": "talker", "namespace": NAMESPACE}
    talker = pykube.Pod(api, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    talker.create()

    def is_ready():
        talker.reload()
        return talker.ready

    eventually("readiness", is_ready)
    eventually("its words", lambda: "listens on port 3000" in talker.logs())
    talker.delete()


@step("delete the namespace")
def delete():
    namespace = pykube.Namespace.objects(api).get_by_name(NAMESPACE)
    namespace.delete()
    eventually("its end", lambda: not namespace.exists())


finish(f"pykube-ng {version_of('pykube-ng')}")
