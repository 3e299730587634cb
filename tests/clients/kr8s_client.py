"""kr8s does real work: objects, patches, waiting, logs, exec and port-forward."""

import urllib.request
from importlib.metadata import version as version_of

import kr8s
from kr8s.objects import ConfigMap, Namespace, Pod
from steps import eventually, finish, step, step_of_pods

NAMESPACE = "kr8s"


def config_map(name, **data):
    return ConfigMap({"metadata": {"name": name, "namespace": NAMESPACE, "labels": {"group": "kr8s"}}, "data": data})


@step("create, get, patch, label, delete")
def crud():
    Namespace({"metadata": {"name": NAMESPACE}}).create()
    one = config_map("one", a="1")
    one.create()
    one.patch({"data": {"b": "1"}})
    assert ConfigMap.get("one", namespace=NAMESPACE).raw["data"] == {"a": "1", "b": "1"}
    one.label({"more": "yes"})
    found = list(kr8s.get("configmaps", namespace=NAMESPACE, label_selector="more=yes"))
    assert [item.name for item in found] == ["one"]
    one.delete()
    eventually("its end", lambda: not one.exists())


@step("discovery, version, who am I")
def discovery():
    assert kr8s.version()["gitVersion"].startswith("v1.36")
    assert any(resource["name"] == "deployments" for resource in kr8s.api_resources())
    assert kr8s.whoami()


@step_of_pods("a pod: ready, logs, exec, port-forward")
def pod():
    container = {"name": "web", "image": "myapp:1.2.0", "ports": [{"containerPort": 3000}]}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    one = Pod({"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec})
    one.create()
    one.wait("condition=Ready", timeout=60)
    assert any("listens on port 3000" in line for line in one.logs())
    assert one.exec(["echo", "out"]).stdout == b"out\n"
    with one.portforward(3000, local_port="auto") as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/cgi-bin/index.cgi", timeout=20) as answer:
            assert b"version: 1.2.0" in answer.read()
    one.delete()
    one.wait("delete", timeout=60)


@step("delete the namespace")
def delete():
    namespace = Namespace.get(NAMESPACE)
    namespace.delete()
    eventually("its end", lambda: not namespace.exists())


finish(f"kr8s {version_of('kr8s')}")
