"""kubernetes_asyncio does real work: objects, watches, the dynamic client, an exec over WebSocket, a loop over a restart."""

import asyncio
import os
from importlib.metadata import version as version_of

from kubernetes_asyncio import client, config, dynamic, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.stream import WsApiClient
from steps import finish, step, step_of_pods

NAMESPACE = "asyncio"


def with_client(work, make=client.ApiClient):
    """A step that is given a client of its own."""

    async def run():
        await config.load_kube_config()
        async with make() as api:
            await asyncio.wait_for(work(api), 90)

    return lambda: asyncio.run(run())


async def until(what, condition, seconds=60):
    end = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"{what}: not within {seconds} seconds"
        await asyncio.sleep(0.1)


@step("create, patch, list in pages, delete")
@with_client
async def crud(api):
    core = client.CoreV1Api(api)
    await core.create_namespace({"metadata": {"name": NAMESPACE}})
    for number in range(3):
        body = {"metadata": {"name": f"page-{number}", "labels": {"group": "asyncio"}}, "data": {"a": "1"}}
        await core.create_namespaced_config_map(NAMESPACE, body)
    patched = await core.patch_namespaced_config_map("page-0", NAMESPACE, {"data": {"b": "1"}})
    assert patched.data == {"a": "1", "b": "1"}
    page = await core.list_namespaced_config_map(NAMESPACE, label_selector="group=asyncio", limit=2)
    rest = await core.list_namespaced_config_map(
        NAMESPACE, label_selector="group=asyncio", limit=2, _continue=page.metadata._continue
    )
    assert [one.metadata.name for one in page.items + rest.items] == ["page-0", "page-1", "page-2"]
    await core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="group=asyncio")
    try:
        await core.read_namespaced_config_map("page-0", NAMESPACE)
        raise AssertionError("it is still there")
    except ApiException as error:
        assert error.status == 404, error


@step("a watch stays up over a restart of the server")
@with_client
async def restart(api):
    core = client.CoreV1Api(api)
    seen = {}

    async def inform():
        while True:
            try:
                async with watch.Watch() as stream:
                    async for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=30):
                        seen[event["object"].metadata.name] = event["type"]
            except Exception:  # The server is away: it is asked again.
                await asyncio.sleep(0.2)

    async def knows(name, kind):
        return seen.get(name) == kind

    informer = asyncio.create_task(inform())
    await core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "before"}})
    await until("the first object", lambda: knows("before", "ADDED"))
    # It makes a server that outlives this: its words go nowhere.
    process = await asyncio.create_subprocess_exec(
        os.environ["RESTART_SERVER"], stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    await core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "after"}})
    await until("what came after the restart", lambda: knows("after", "ADDED"))
    informer.cancel()


@step("the dynamic client, with server-side apply")
@with_client
async def apply(api):
    anything = await dynamic.DynamicClient(api)
    maps = await anything.resources.get(api_version="v1", kind="ConfigMap")

    async def applied(manager, **data):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data}
        return await anything.server_side_apply(
            maps, body=body, name="shared", namespace=NAMESPACE, field_manager=manager
        )

    await applied("one", a="1")
    both = await applied("two", b="1")
    assert both.data.to_dict() == {"a": "1", "b": "1"}
    # This client's dynamic part answers with the refusal, and raises nothing.
    refused = await applied("two", a="2")
    assert refused.code == 409 and 'conflict with "one": .data.a' in refused.message, refused


@step_of_pods("a pod: running, logs")
@with_client
async def pod(api):
    core = client.CoreV1Api(api)
    spec = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "web", "image": "myapp:1.2.0"}]}
    await core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "web"}, "spec": spec})

    async def says(words):
        try:
            # Before the pod has a node there is nothing, not even an empty text.
            return words in (await core.read_namespaced_pod_log("web", NAMESPACE) or "")
        except ApiException as error:
            # It has not begun, its node has not heard of it yet, or the node's agent is not back after the restart.
            assert error.status in (400, 404, 500), error
            return False

    await until("the log", lambda: says("listens on port 3000"))


async def execute(api):
    core = client.CoreV1Api(api)
    wanted = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
    said = await core.connect_get_namespaced_pod_exec(
        "web", NAMESPACE, command=["sh", "-c", "echo out; echo err >&2"], **wanted
    )
    assert sorted(said.split()) == ["err", "out"], said
    session = await core.connect_get_namespaced_pod_exec(
        "web", NAMESPACE, command=["sh", "-c", "exit 7"], _preload_content=False, **wanted
    )
    async with session as socket:
        ends = [message.data async for message in socket if message.data[:1] == b"\x03"]
    assert [api.parse_error_data(end[1:].decode()) for end in ends] == [7], ends


step_of_pods("exec over WebSocket")(with_client(execute, WsApiClient))


@step("delete the namespace")
@with_client
async def delete(api):
    core = client.CoreV1Api(api)
    await core.delete_namespace(NAMESPACE)

    async def gone():
        try:
            await core.read_namespace(NAMESPACE)
            return False
        except ApiException as error:
            return error.status == 404

    await until("its end", gone)


finish(f"kubernetes_asyncio {version_of('kubernetes_asyncio')}")
