"""An operator of Python's registry does real work: kopf, with handlers of every sort, finalizers, timers, daemons, events
and admission by a webhook server of its own."""

import asyncio
import os
import subprocess
import threading

import kopf
from kubernetes import client, config
from kubernetes.client.rest import ApiException
from steps import eventually, finish, step

NAMESPACE = "kopf"
GROUP = "kopf.example.com"

config.load_kube_config()
core = client.CoreV1Api()
custom = client.CustomObjectsApi()
WHERE = dict(group=GROUP, version="v1", namespace=NAMESPACE, plural="sites")


# -- the operator ----------------------------------------------------------------------------------------------------


@kopf.on.startup()
def configure(settings, **_):
    settings.peering.standalone = True
    settings.posting.level = 10
    settings.persistence.finalizer = f"{GROUP}/held"
    settings.networking.error_backoffs = [0.2, 0.5, 1, 1, 2, 2, 4, 4]
    # What kopf would make for itself is of a library that doesn't know today's OpenSSL.
    key, certificate = (os.path.join(os.environ["SCRATCH"], name) for name in ("key.pem", "certificate.pem"))
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kopf", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1", host="127.0.0.1", certfile=certificate, pkeyfile=key, cafile=certificate
    )
    settings.admission.managed = f"auto.{GROUP}"


@kopf.on.create("sites", group=GROUP)
def created(spec, name, namespace, body, **_):
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-site"}, "data": {"size": str(spec["size"])}}
    kopf.adopt(content, owner=body)
    core.create_namespaced_config_map(namespace, content)
    kopf.info(body, reason="Built", message=f"of size {spec['size']}")
    return {"built": True}


@kopf.on.field("sites", group=GROUP, field="spec.size")
def resized(old, new, name, namespace, patch, **_):
    if old is not None:
        core.patch_namespaced_config_map(f"{name}-site", namespace, {"data": {"size": str(new)}})
        patch.status["resizedFrom"] = old


@kopf.on.update("sites", group=GROUP)
def updated(diff, patch, **_):
    patch.status["changes"] = len(diff)


@kopf.timer("sites", group=GROUP, interval=0.5)
def ticking(status, patch, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.daemon("sites", group=GROUP, cancellation_timeout=5)
async def watching(stopped, name, **_):
    _daemons.add(name)
    try:
        await stopped.wait()
    finally:
        # It is cancelled if it is stopped at the moment when it begins.
        _daemons.discard(name)


_daemons = set()


@kopf.on.validate("sites", group=GROUP)
def judged(spec, warnings, **_):
    if spec.get("size", 0) > 100:
        raise kopf.AdmissionError("sites are not larger than 100", code=422)
    if spec.get("size", 0) > 50:
        warnings.append("that is large")


@kopf.on.mutate("sites", group=GROUP, operation="CREATE")
def completed(spec, patch, **_):
    if "colour" not in spec:
        patch.spec["colour"] = "green"


@kopf.on.delete("sites", group=GROUP)
def deleted(name, namespace, **_):
    core.create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-was-deleted"}})


@kopf.on.event("", "v1", "configmaps", labels={"watched": "yes"})
def seen(type, name, memo, **_):
    _events.append((type, name))


_events = []
_stop = threading.Event()


def operate():
    ready = threading.Event()

    def run():
        asyncio.run(kopf.operator(standalone=True, namespaces=[NAMESPACE], stop_flag=_stop, ready_flag=ready))

    threading.Thread(target=run, daemon=True).start()
    assert ready.wait(30), "the operator is not ready"


# -- what it has to do -----------------------------------------------------------------------------------------------


def site(name="one"):
    return custom.get_namespaced_custom_object(name=name, **WHERE)


def site_is_gone(name):
    try:
        site(name)
        return False
    except ApiException as error:
        return error.status == 404


def config_map(name):
    try:
        return core.read_namespaced_config_map(name, NAMESPACE)
    except ApiException as error:
        assert error.status == 404, error
        return None


@step("a custom kind, and the operator starts")
def begin():
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}, "colour": {"type": "string"}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Site", "plural": "sites"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"sites.{GROUP}"},
        "spec": spec,
    }
    client.ApiextensionsV1Api().create_custom_resource_definition(definition)
    operate()


@step("create: a child that is owned, a result in the status, a finalizer")
def creation():
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Site", "metadata": {"name": "one"}, "spec": {"size": 1}}
    eventually("the custom kind", lambda: custom.list_namespaced_custom_object(**WHERE) is not None)
    custom.create_namespaced_custom_object(body=body, **WHERE)
    child = eventually("the child", lambda: config_map("one-site"))
    assert child.data == {"size": "1"}
    assert child.metadata.owner_references[0].uid == site()["metadata"]["uid"]
    eventually("the result", lambda: site().get("status", {}).get("created", {}).get("built"))
    assert site()["metadata"]["finalizers"] == [f"{GROUP}/held"]


@step("admission: its webhooks complete, refuse and warn")
def admission():
    webhooks = client.AdmissionregistrationV1Api()
    for configured in (webhooks.list_validating_webhook_configuration, webhooks.list_mutating_webhook_configuration):
        eventually("its configuration", lambda: any(one.webhooks for one in configured().items if GROUP in one.metadata.name))

    def make(size):
        body = {"apiVersion": f"{GROUP}/v1", "kind": "Site", "metadata": {"name": f"of-{size}"}, "spec": {"size": size}}
        return custom.create_namespaced_custom_object_with_http_info(body=body, **WHERE)

    # The server may know the webhooks a moment later than their configuration is read.
    eventually("a site that is completed", lambda: completes(make))
    try:
        make(101)
        raise AssertionError("it was not refused")
    except ApiException as error:
        assert error.status == 422 and "denied the request: sites are not larger than 100" in error.body, error
    _, _, headers = make(51)
    assert headers["Warning"] == '299 - "that is large"', headers
    # An object that ends without a time of deletion, since nobody held it yet, leaves kopf its daemons.
    eventually("its finalizer", lambda: site("of-51")["metadata"].get("finalizers"))
    custom.delete_namespaced_custom_object(name="of-51", **WHERE)


def completes(make):
    made, _, _ = make(2)
    custom.delete_namespaced_custom_object(name="of-2", **WHERE)
    eventually("its end", lambda: site_is_gone("of-2"))
    return made["spec"].get("colour") == "green"


@step("a daemon runs as long as its object")
def daemon():
    eventually("its start", lambda: "one" in _daemons)
    eventually("the end of that of an object that went", lambda: "of-51" not in _daemons)


@step("an event that the operator wrote")
def event():
    def found():
        events = core.list_namespaced_event(NAMESPACE, field_selector="reason=Built").items
        return any(event.message == "of size 1" and event.involved_object.name == "one" for event in events)

    eventually("the event", found)


@step("a timer patches the status")
def timer():
    eventually("three ticks", lambda: site().get("status", {}).get("ticks", 0) >= 3)


@step("handlers of a field and of updates")
def change():
    custom.patch_namespaced_custom_object(name="one", body={"spec": {"size": 5}}, **WHERE)
    eventually("the change", lambda: config_map("one-site").data == {"size": "5"})
    eventually("the status", lambda: site()["status"].get("resizedFrom") == 1 and site()["status"].get("changes") == 1)


@step("watches of built-in kinds by label")
def watched():
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "seen", "labels": {"watched": "yes"}}})
    eventually("its event", lambda: ("ADDED", "seen") in _events)


@step("the operator stays up over a restart of the server")
def restart():
    subprocess.run([os.environ["RESTART_SERVER"]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = site()["status"]["ticks"]
    custom.patch_namespaced_custom_object(name="one", body={"spec": {"size": 9}}, **WHERE)
    eventually("the change", lambda: config_map("one-site").data == {"size": "9"})
    eventually("more ticks", lambda: site()["status"]["ticks"] > before)


@step("delete: the handler runs, the finalizer goes, the child is collected")
def deletion():
    custom.delete_namespaced_custom_object(name="one", **WHERE)
    eventually("the handler's work", lambda: config_map("one-was-deleted"))
    eventually("its end", lambda: site_is_gone("one"))
    eventually("the end of its daemon", lambda: "one" not in _daemons)
    eventually("the end of its child", lambda: config_map("one-site") is None)


@step("the operator stops, and all is taken away")
def end():
    _stop.set()
    webhooks = client.AdmissionregistrationV1Api()
    webhooks.delete_validating_webhook_configuration(f"auto.{GROUP}")
    webhooks.delete_mutating_webhook_configuration(f"auto.{GROUP}")
    client.ApiextensionsV1Api().delete_custom_resource_definition(f"sites.{GROUP}")
    core.delete_namespace(NAMESPACE)


finish(f"kopf {kopf.__version__}")
