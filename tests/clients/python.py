"""The official Python client does real work."""

import base64
import os
import socket
import subprocess
import threading
import time

import kubernetes
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream
from steps import eventually, finish, step, step_of_pods

NAMESPACE = "python"
GROUP = "python.example.com"

config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"group": "python"}), data=data)


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"{call.__name__} was not refused with {code}")


@step("create, read, list, replace, patch, delete")
def crud():
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    made = core.create_namespaced_config_map(NAMESPACE, config_map("one", a="1"))
    assert made.data == {"a": "1"} and made.metadata.creation_timestamp.tzinfo is not None
    refused(409, core.create_namespaced_config_map, NAMESPACE, config_map("one"))
    made.data["a"] = "2"
    assert core.replace_namespaced_config_map("one", NAMESPACE, made).data["a"] == "2"
    refused(409, core.replace_namespaced_config_map, "one", NAMESPACE, made)
    patched = core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"b": "1"}})
    assert patched.data == {"a": "2", "b": "1"}
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="group=python", limit=1)
    assert [item.metadata.name for item in listed.items] == ["one"]
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="hidden"), string_data={"word": "x"})
    core.create_namespaced_secret(NAMESPACE, secret)
    assert base64.b64decode(core.read_namespaced_secret("hidden", NAMESPACE).data["word"]) == b"x"
    dry = core.delete_namespaced_config_map("one", NAMESPACE, dry_run="All")
    assert dry.status == "Success" or dry.metadata
    core.delete_namespaced_config_map("one", NAMESPACE)
    refused(404, core.read_namespaced_config_map, "one", NAMESPACE)
    refused(422, core.create_namespaced_config_map, NAMESPACE, config_map("Not_A_Name"))


@step("pages of a list")
def pages():
    for number in range(5):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{number}"))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="group=python", limit=2, _continue=token)
        assert len(page.items) <= 2
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{number}" for number in range(5)], names
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="group=python")
    assert core.list_namespaced_config_map(NAMESPACE, label_selector="group=python").items == []


@step("watch")
def watching():
    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("watched"))
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"a": "1"}})
    core.delete_namespaced_config_map("watched", NAMESPACE)
    seen = []
    events = watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=5
    )
    for event in events:
        seen.append((event["type"], event["object"].metadata.name))
    wanted = [(kind, "watched") for kind in ("ADDED", "MODIFIED", "DELETED")]
    assert seen == wanted, seen


@step("a loop of list and watch stays up over a restart of the server")
def restart():
    known, stop = {}, threading.Event()

    def inform():
        while not stop.is_set():
            try:
                listed = core.list_namespaced_config_map(NAMESPACE, label_selector="group=python")
                known.clear()
                known.update({item.metadata.name: item.data for item in listed.items})
                version = listed.metadata.resource_version
                for event in watch.Watch().stream(
                    core.list_namespaced_config_map,
                    NAMESPACE,
                    label_selector="group=python",
                    resource_version=version,
                    timeout_seconds=30,
                ):
                    name = event["object"].metadata.name
                    if event["type"] == "DELETED":
                        known.pop(name, None)
                    else:
                        known[name] = event["object"].data
                    if stop.is_set():
                        return
            except Exception:  # The server is away: it is asked again.
                time.sleep(0.2)

    thread = threading.Thread(target=inform, daemon=True)
    thread.start()
    core.create_namespaced_config_map(NAMESPACE, config_map("before", a="1"))
    eventually("the first object", lambda: "before" in known)
    subprocess.run([os.environ["RESTART_SERVER"]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    core.create_namespaced_config_map(NAMESPACE, config_map("after", a="1"))
    core.delete_namespaced_config_map("before", NAMESPACE)
    eventually("what came after the restart", lambda: "after" in known and "before" not in known)
    stop.set()
    core.delete_namespaced_config_map("after", NAMESPACE)
    thread.join(timeout=10)


@step("the dynamic client works with a custom kind, found by discovery")
def custom():
    spec = {"type": "object", "properties": {"size": {"type": "integer"}, "colour": {"type": "string", "default": "green"}}}
    kind = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"cogs.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": "Cog", "plural": "cogs"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": spec, "status": {"type": "object", "properties": {"size": {"type": "integer"}}}},
                        }
                    },
                }
            ],
        },
    }
    anything = dynamic.DynamicClient(client.ApiClient())
    definitions = anything.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    definitions.create(body=kind)

    def found():
        anything.resources.invalidate_cache()
        try:
            return anything.resources.get(api_version=f"{GROUP}/v1", kind="Cog")
        except dynamic.exceptions.ResourceNotFoundError:
            return None

    cogs = eventually("the custom kind in discovery", found)
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Cog", "metadata": {"name": "one"}, "spec": {"size": 1}}
    assert cogs.create(body=body, namespace=NAMESPACE).spec.colour == "green"
    merged = cogs.patch(body={"spec": {"size": 2}}, name="one", namespace=NAMESPACE, content_type="application/merge-patch+json")
    assert merged.spec.size == 2
    applied = anything.server_side_apply(
        cogs, body={**body, "spec": {"size": 3}}, name="one", namespace=NAMESPACE, field_manager="mine", force_conflicts=True
    )
    assert applied.spec.size == 3
    told = cogs.status.patch(
        body={"status": {"size": 3}}, name="one", namespace=NAMESPACE, content_type="application/merge-patch+json"
    )
    assert told.status.size == 3
    events = cogs.watch(namespace=NAMESPACE, timeout=2)
    assert [(event["type"], event["object"].metadata.name) for event in events] == [("ADDED", "one")]
    scale = client.CustomObjectsApi().get_namespaced_custom_object_scale(GROUP, "v1", NAMESPACE, "cogs", "one")
    assert scale["spec"]["replicas"] == 3 and scale["status"]["replicas"] == 3, scale
    cogs.delete(name="one", namespace=NAMESPACE)
    definitions.delete(name=f"cogs.{GROUP}")


@step("server-side apply, with a conflict")
def apply():
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")

    def applied(manager, force=False, **data):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data}
        return maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager=manager, force_conflicts=force)

    applied("one", a="1", b="1")
    try:
        applied("two", a="2")
        raise AssertionError("no conflict")
    except dynamic.exceptions.ConflictError as error:
        assert 'conflict with \\"one\\": .data.a' in str(error.body), error.body
    assert applied("two", force=True, a="2").data.to_dict() == {"a": "2", "b": "1"}
    assert applied("one", b="1").data.to_dict() == {"a": "2", "b": "1"}
    assert applied("one").data.to_dict() == {"a": "2"}


@step("leader election: one leads, and another takes over when it stops")
def leader():
    from kubernetes.leaderelection import electionconfig, leaderelection
    from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

    led = []

    class Enough(Exception):
        pass

    def candidate(name, lasting):
        def lead():
            led.append(name)

        def lost():
            raise Enough

        lock = ConfigMapLock("leader", NAMESPACE, name)
        if not lasting:
            # Its renewals end after a while, as those of a machine that stopped.
            update, began = lock.update, time.monotonic()
            lock.update = lambda *arguments: update(*arguments) if time.monotonic() - began < 5 else False
        wanted = electionconfig.Config(
            lock, lease_duration=4, renew_deadline=3, retry_period=1, onstarted_leading=lead, onstopped_leading=lost
        )

        def run():
            try:
                leaderelection.LeaderElection(wanted).run()
            except Enough:
                pass

        threading.Thread(target=run, daemon=True).start()

    candidate("first", lasting=False)
    eventually("a leader", lambda: led == ["first"])
    candidate("second", lasting=True)
    eventually("the next leader", lambda: led == ["first", "second"], seconds=40)
    record = core.read_namespaced_config_map("leader", NAMESPACE).metadata.annotations
    assert "second" in record["control-plane.alpha.kubernetes.io/leader"], record


@step("utils.create_from_yaml, with what it refuses")
def from_yaml():
    manifest = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "listed"}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "wrong"}, "spec": {}},
        ],
    }
    try:
        utils.create_from_dict(client.ApiClient(), manifest, namespace=NAMESPACE)
        raise AssertionError("it was not refused")
    except utils.FailToCreateError as error:
        assert "spec.template.spec.containers: Required value" in str(error), error
    core.read_namespaced_config_map("listed", NAMESPACE)


@step("a service account's token is somebody, who may do what its role says")
def account():
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "worker"}})
    rbac = client.RbacAuthorizationV1Api()
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    rbac.create_namespaced_role(NAMESPACE, {"metadata": {"name": "worker"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "worker"}
    subjects = [{"kind": "ServiceAccount", "name": "worker", "namespace": NAMESPACE}]
    rbac.create_namespaced_role_binding(NAMESPACE, {"metadata": {"name": "worker"}, "roleRef": reference, "subjects": subjects})
    spec = client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)
    token = core.create_namespaced_service_account_token("worker", NAMESPACE, client.AuthenticationV1TokenRequest(spec=spec))
    own = client.Configuration.get_default_copy()
    own.cert_file = own.key_file = None
    own.api_key = {"authorization": f"Bearer {token.status.token}"}
    worker = client.ApiClient(own)
    told = client.AuthenticationV1Api(worker).create_self_subject_review(client.V1SelfSubjectReview())
    assert told.status.user_info.username == f"system:serviceaccount:{NAMESPACE}:worker"
    client.CoreV1Api(worker).list_namespaced_config_map(NAMESPACE)
    refused(403, client.CoreV1Api(worker).list_namespaced_secret, NAMESPACE)


@step("leases")
def records():
    coordination = client.CoordinationV1Api()
    lease = client.V1Lease(
        metadata=client.V1ObjectMeta(name="lease"),
        spec=client.V1LeaseSpec(holder_identity="me", lease_duration_seconds=10, lease_transitions=0),
    )
    coordination.create_namespaced_lease(NAMESPACE, lease)
    read = coordination.read_namespaced_lease("lease", NAMESPACE)
    read.spec.holder_identity = "you"
    assert coordination.replace_namespaced_lease("lease", NAMESPACE, read).spec.holder_identity == "you"


@step_of_pods("a Deployment becomes available and is scaled")
def deployment():
    labels = {"app": "web"}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(
            termination_grace_period_seconds=1,
            containers=[client.V1Container(name="web", image="myapp:1.2.0", ports=[client.V1ContainerPort(container_port=3000)])],
        ),
    )
    spec = client.V1DeploymentSpec(replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=template)
    apps.create_namespaced_deployment(NAMESPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec))

    def available(count):
        return lambda: apps.read_namespaced_deployment_status("web", NAMESPACE).status.available_replicas == count

    eventually("an available replica", available(1))
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    eventually("two available replicas", available(2))
    assert apps.read_namespaced_deployment_scale("web", NAMESPACE).status.replicas == 2


def pod():
    return core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0].metadata.name


@step_of_pods("exec over WebSocket")
def execute():
    said = stream(
        core.connect_get_namespaced_pod_exec, pod(), NAMESPACE, command=["sh", "-c", "echo out; echo err >&2"],
        stderr=True, stdin=False, stdout=True, tty=False,
    )
    assert sorted(said.split()) == ["err", "out"], said
    session = stream(
        core.connect_get_namespaced_pod_exec, pod(), NAMESPACE, command=["sh"],
        stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False,
    )
    session.write_stdin("echo typed\n")
    assert session.readline_stdout(timeout=20) == "typed"
    session.write_stdin("exit 3\n")
    session.run_forever(timeout=20)
    assert session.returncode == 3, session.returncode


@step_of_pods("logs")
def logs():
    assert "listens on port 3000" in core.read_namespaced_pod_log(pod(), NAMESPACE)
    followed = core.read_namespaced_pod_log(pod(), NAMESPACE, follow=True, _preload_content=False)
    assert b"listens on port 3000" in next(iter(followed.stream()))
    followed.close()


@step_of_pods("port-forward over WebSocket")
def forward():
    forwarded = portforward(core.connect_get_namespaced_pod_portforward, pod(), NAMESPACE, ports="3000")
    connection: socket.socket = forwarded.socket(3000)
    connection.settimeout(20)
    connection.sendall(b"GET /cgi-bin/index.cgi HTTP/1.0\r\n\r\n")
    answer = b""
    while b"version: 1.2.0" not in answer:
        part = connection.recv(4096)
        assert part, answer
        answer += part
    connection.close()
    assert forwarded.error(3000) is None, forwarded.error(3000)


@step("delete the namespace")
def delete():
    core.delete_namespace(NAMESPACE)

    def gone():
        try:
            core.read_namespace(NAMESPACE)
            return False
        except ApiException as error:
            return error.status == 404

    eventually("its end", gone)


finish(f"kubernetes {kubernetes.__version__}")
