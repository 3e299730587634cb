"""lightkube does real work: typed and generic resources, server-side apply, patches, watches, streams of logs."""

from importlib.metadata import version as version_of

from lightkube import ApiError, Client
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace, Pod
from lightkube.types import PatchType
from steps import eventually, finish, step, step_of_pods

NAMESPACE = "lightkube"
GROUP = "lightkube.example.com"
client = Client(field_manager="lightkube", namespace=NAMESPACE)


def config_map(name, **data):
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=NAMESPACE, labels={"group": "lightkube"}), data=data)


@step("create, get, list, replace, patch, delete")
def crud():
    client.create(Namespace(metadata=ObjectMeta(name=NAMESPACE)))
    made = client.create(config_map("one", a="1"))
    made.data["a"] = "2"
    assert client.replace(made).data == {"a": "2"}
    assert client.patch(ConfigMap, "one", {"data": {"b": "1"}}, patch_type=PatchType.MERGE).data == {"a": "2", "b": "1"}
    assert client.patch(ConfigMap, "one", [{"op": "remove", "path": "/data/b"}], patch_type=PatchType.JSON).data == {"a": "2"}
    assert client.patch(ConfigMap, "one", {"data": {"c": "1"}}, patch_type=PatchType.STRATEGIC).data == {"a": "2", "c": "1"}
    assert [one.metadata.name for one in client.list(ConfigMap, labels={"group": ["lightkube", "other"]})] == ["one"]
    client.delete(ConfigMap, "one")
    try:
        client.get(ConfigMap, "one")
        raise AssertionError("it is still there")
    except ApiError as error:
        assert error.status.code == 404 and error.status.reason == "NotFound"


@step("server-side apply")
def apply():
    assert client.apply(config_map("applied", a="1")).data == {"a": "1"}
    try:
        client.apply(config_map("applied", a="2"), field_manager="other")
        raise AssertionError("no conflict")
    except ApiError as error:
        assert error.status.code == 409 and 'conflict with "lightkube": .data.a' in error.status.message, error.status.message
    assert client.apply(config_map("applied", a="2"), field_manager="other", force=True).data == {"a": "2"}


@step("watch")
def watch():
    listed = client.list(ConfigMap)
    assert all(one.metadata.name for one in listed)
    version = listed.resourceVersion
    client.create(config_map("watched"))
    client.delete(ConfigMap, "watched")
    seen = []
    for kind, one in client.watch(ConfigMap, resource_version=version, server_timeout=10):
        seen.append((kind, one.metadata.name))
        if kind == "DELETED":
            break
    assert seen == [("ADDED", "watched"), ("DELETED", "watched")], seen


@step("a generic resource of a custom kind, with its status")
def custom():
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}, "default": {}},
            "status": {"type": "object", "properties": {"done": {"type": "boolean"}}},
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Belt", "plural": "belts"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
    client.create(CustomResourceDefinition.from_dict({"metadata": {"name": f"belts.{GROUP}"}, "spec": spec}))
    client.wait(CustomResourceDefinition, f"belts.{GROUP}", for_conditions=["Established"])
    belt = create_namespaced_resource(GROUP, "v1", "Belt", "belts")
    made = client.create(belt(metadata=ObjectMeta(name="one", namespace=NAMESPACE)))
    assert made["spec"] == {"size": 3}, made
    told = client.patch(belt.Status, "one", {"status": {"done": True}}, patch_type=PatchType.MERGE)
    assert told["status"] == {"done": True}
    client.delete(belt, "one")
    client.delete(CustomResourceDefinition, f"belts.{GROUP}")


@step_of_pods("a Deployment becomes available; its logs; its scale")
def deployment():
    labels = {"app": "web"}
    container = {"name": "web", "image": "myapp:1.2.0"}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    client.create(Deployment.from_dict({"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec}))
    client.wait(Deployment, "web", for_conditions=["Available"])
    pod = next(iter(client.list(Pod, labels=labels)))
    eventually("the log", lambda: any("listens on port 3000" in line for line in client.log(pod.metadata.name)))
    scale = client.get(Deployment.Scale, "web")
    assert scale.status.replicas == 1


@step("delete the namespace")
def delete():
    client.delete(Namespace, NAMESPACE)

    def gone():
        try:
            client.get(Namespace, NAMESPACE)
            return False
        except ApiError as error:
            return error.status.code == 404

    eventually("its end", gone)


finish(f"lightkube {version_of('lightkube')}")
