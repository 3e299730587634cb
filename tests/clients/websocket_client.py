"""WebSockets as browsers and dashboards speak them: watches, logs, tokens among the subprotocols, channels of every version."""

import base64
import json
from importlib.metadata import version as version_of

import websocket
from kubernetes import client, config
from steps import eventually, finish, step, step_of_pods

NAMESPACE = "websocket"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
TOKEN = "base64url.bearer.authorization.k8s.io."

config.load_kube_config()
core = client.CoreV1Api()
own = client.Configuration.get_default_copy()


def dial(path, *protocols, identity=True):
    tls = {"ca_certs": own.ssl_ca_cert}
    if identity:
        tls |= {"certfile": own.cert_file, "keyfile": own.key_file}
    url = own.host.replace("https:", "wss:") + path
    return websocket.create_connection(url, subprotocols=list(protocols), sslopt=tls, timeout=20)


def messages(connection):
    """All until the server says farewell."""
    received = []
    while True:
        code, data = connection.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            return received
        received.append(data)


@step("a watch: an event is a text")
def watch():
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "one", "labels": {"group": "websocket"}}})
    connection = dial(f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&labelSelector=group%3Dwebsocket")
    code, data = connection.recv_data()
    assert code == websocket.ABNF.OPCODE_TEXT, code
    assert json.loads(data)["type"] == "ADDED" and data.endswith(b"\n")
    core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"a": "1"}})
    event = json.loads(connection.recv())
    assert (event["type"], event["object"]["data"]) == ("MODIFIED", {"a": "1"})
    connection.close()


@step("a watch that ends says farewell")
def end():
    connection = dial(f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&timeoutSeconds=1&labelSelector=group%3Dwebsocket")
    assert len(messages(connection)) == 1


@step("a bearer token among the subprotocols")
def token():
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "browser"}})
    rbac = client.RbacAuthorizationV1Api()
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"]}]
    rbac.create_namespaced_role(NAMESPACE, {"metadata": {"name": "browser"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "browser"}
    subjects = [{"kind": "ServiceAccount", "name": "browser", "namespace": NAMESPACE}]
    rbac.create_namespaced_role_binding(NAMESPACE, {"metadata": {"name": "browser"}, "roleRef": reference, "subjects": subjects})
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    given = core.create_namespaced_service_account_token("browser", NAMESPACE, request).status.token
    encoded = TOKEN + base64.urlsafe_b64encode(given.encode()).decode().rstrip("=")
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1"
    connection = dial(path, encoded, "base64.binary.k8s.io", identity=False)
    # The answer never repeats the token.
    assert connection.getsubprotocol() == "base64.binary.k8s.io"
    assert json.loads(connection.recv())["type"] == "ADDED"
    connection.close()
    try:
        dial(f"/api/v1/namespaces/{NAMESPACE}/secrets?watch=1", encoded, "base64.binary.k8s.io", identity=False)
        raise AssertionError("it was not refused")
    except websocket.WebSocketBadStatusException as error:
        assert error.status_code == 403, error


@step_of_pods("a pod")
def pod():
    container = {"name": "web", "image": "myapp:1.2.0", "ports": [{"containerPort": 3000}]}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "web"}, "spec": spec})
    eventually("the pod", lambda: core.read_namespaced_pod("web", NAMESPACE).status.phase == "Running")
    eventually("its log", lambda: "listens" in core.read_namespaced_pod_log("web", NAMESPACE))


@step_of_pods("logs, in bytes and in base64")
def logs():
    for protocols, read in (((), bytes), (("binary.k8s.io",), bytes), (("base64.binary.k8s.io",), base64.b64decode)):
        connection = dial(f"{PODS}/web/log", *protocols)
        assert connection.getsubprotocol() == (protocols[0] if protocols else None)
        first, *more = messages(connection)
        # An empty message shows that it has begun.
        assert first == b"" and b"listens on port 3000" in b"".join(map(read, more)), (first, more)


@step_of_pods("exec in every version of the channels")
def execute():
    path = f"{PODS}/web/exec?command=sh&command=-c&command=echo%20out%3B%20exit%203&stdout=1&stderr=1"
    failure = "command terminated with non-zero exit code: command terminated with exit code 3"
    for protocol in ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io", None):
        connection = dial(path, *([protocol] if protocol else []))
        assert connection.getsubprotocol() == protocol
        received = messages(connection)
        if protocol and "base64" in protocol:
            received = [bytes([one[0] - ord("0")]) + base64.b64decode(one[1:]) for one in received]
        assert received[0] == b"\x01", received
        told = {number: b"".join(one[1:] for one in received if one[0] == number) for number in (1, 3)}
        assert told[1] == b"out\n", (protocol, received)
        end = json.loads(told[3])["message"] if protocol and protocol.startswith("v") else told[3].decode()
        assert end == failure, (protocol, received)


@step_of_pods("port-forward without a subprotocol, and in base64")
def forward():
    asked = b"GET /cgi-bin/index.cgi HTTP/1.0\r\n\r\n"
    connection = dial(f"{PODS}/web/portforward?ports=3000")
    connection.send_binary(b"\x00" + asked)
    first, second, *more = messages(connection)
    assert (first, second) == (b"\x00\xb8\x0b", b"\x01\xb8\x0b"), (first, second)
    assert b"version: 1.2.0" in b"".join(one[1:] for one in more), more
    connection = dial(f"{PODS}/web/portforward?ports=3000", "v4.base64.channel.k8s.io")
    connection.send("0" + base64.b64encode(asked).decode())
    first, _, *more = messages(connection)
    assert first == b"0" + base64.b64encode(b"\xb8\x0b"), first
    assert b"version: 1.2.0" in b"".join(base64.b64decode(one[1:]) for one in more), more


@step_of_pods("a subprotocol that nobody speaks is refused")
def unknown():
    for path in (f"{PODS}/web/log", f"{PODS}/web/exec?command=true&stdout=1"):
        try:
            dial(path, "v9.channel.k8s.io")
            raise AssertionError("it was not refused")
        except websocket.WebSocketBadStatusException as error:
            assert error.status_code in (400, 403), error


@step("delete the namespace")
def delete():
    core.delete_namespace(NAMESPACE)
    eventually("its end", lambda: not any(one.metadata.name == NAMESPACE for one in core.list_namespace().items))


finish(f"websocket-client {version_of('websocket-client')}")
