#!/bin/bash
# Shows Martello at work on this machine: demo.sh up SECCTL, demo.sh down SECCTL.
#
# `up` starts a server and its node, imports the example images, applies the example manifests with the real kubectl,
# and checks everything that it shows. It leaves the cluster running. `down` takes all of it away.
#
# MARTELLO_DEMO_DIR (default /var/lib/martello-demo) is where everything is kept, KUBECTL the kubectl to use.
set -eEu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${MARTELLO_DEMO_DIR:-/var/lib/martello-demo}
action=${1:-}
built=${2:-}
began=$SECONDS
forward=

if [ "$action" != up ] && [ "$action" != down ] || [ -z "$built" ]; then
    echo "usage: demo.sh up|down SECCTL" >&2
    exit 2
fi
# Only the preparation of id ranges, control groups and directories needs root; the agent gives it up at once.
if [ "$(id -u)" != 0 ]; then
    echo "The node prepares id ranges and control groups as root and then drops to its own user; asking sudo."
    exec sudo --preserve-env=MARTELLO_DEMO_DIR,KUBECTL,PATH "$0" "$@"
fi

secctl=$dir/bin/secctl
server_pid=$dir/server.pid
kubectl_program=${KUBECTL:-kubectl}

# -- telling ---------------------------------------------------------------------------------------------------------

step() { printf '\n\033[1m== %s\033[0m  (%ss)\n' "$*" $((SECONDS - began)); }
show() {
    printf '\033[2m$ %s\033[0m\n' "$*"
    "$@" 2>&1 | sed 's/^/  /' || fail "$*"
}
good() { printf '  \033[32m✓\033[0m %s\n' "$*"; }
fail() {
    printf '\n\033[31mThe demo failed: %s\033[0m\n' "$*" >&2
    if [ -f "$dir/server.log" ]; then
        echo "-- the end of $dir/server.log:" >&2
        tail -n 15 "$dir/server.log" >&2
    fi
    if [ -f "$dir/kubeconfig" ]; then
        echo "-- what is not running:" >&2
        k get pods --all-namespaces --request-timeout=5s >&2 || true
        k get events --request-timeout=5s 2>/dev/null | tail -n 10 >&2 || true
    fi
    echo "It is left as it is, to be looked at: export KUBECONFIG=$dir/kubeconfig. \`make down\` takes it away." >&2
    exit 1
}
# until_ok SECONDS WHAT COMMAND…: runs the command until it succeeds, with visible progress.
until_ok() {
    local limit=$1 what=$2 start=$SECONDS
    shift 2
    printf '  %s ' "$what"
    until "$@" >/dev/null 2>&1; do
        if [ $((SECONDS - start)) -ge "$limit" ]; then
            echo
            "$@" || true
            fail "$what: not within $limit seconds"
        fi
        if [ -f "$server_pid" ] && ! kill -0 "$(cat "$server_pid")" 2>/dev/null; then
            echo
            fail "$what: the server has ended"
        fi
        printf '.'
        sleep 0.5
    done
    printf ' %ss\n' $((SECONDS - start))
}

# -- running ---------------------------------------------------------------------------------------------------------

k() { command "$kubectl_program" --kubeconfig "$dir/kubeconfig" --cache-dir "$dir/cache" "$@"; }
kubectl() { k "$@"; }
free_port() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}
is_ready() { [ "$(curl -sk --max-time 2 "https://127.0.0.1:$port/readyz")" = ok ]; }
# The first pod that is running and not about to end.
first_pod() {
    k get pods -l "$1" -o 'jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.metadata.deletionTimestamp}{"\n"}{end}' |
        awk '$2 == "Running" && NF == 2 && !found { print $1; found = 1 }'
}
running() { [ "$(k get pods -l "$1" -o 'jsonpath={range .items[*]}{.status.phase} {.metadata.deletionTimestamp}{"\n"}{end}' | grep -c '^Running $')" = "$2" ]; }
restarted() { [ "$(k get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}/{.status.containerStatuses[0].ready}')" = "$2/true" ]; }
stop_forward() {
    if [ -n "$forward" ]; then
        kill "$forward" 2>/dev/null || true
        wait "$forward" 2>/dev/null || true
        forward=
    fi
}
# Files under the server's and the node's directories that hold one of the words; what lives in memory is on no disk.
on_disk() {
    local word
    for word in "$@"; do
        find "$dir/server" "$dir/node" -xdev -type f -exec grep -lFa -- "$word" {} + 2>/dev/null || true
    done
}

start_cluster() {
    step "Starting secctl server with the node agent of this machine"
    install -d -m 755 "$dir" "$dir/bin"
    # A copy of its own, so that a build does not change what runs.
    install -m 755 "$built" "$secctl"
    getent passwd martello >/dev/null || touch "$dir/made-user"
    port=$(free_port 6443)
    node_port=$(free_port 10250)
    setsid "$secctl" server --data-dir "$dir/server" --root-key-file "$dir/root-key" --listen "127.0.0.1:$port" \
        --node --node-dir "$dir/node" --node-port "$node_port" </dev/null >"$dir/server.log" 2>&1 &
    echo $! >"$server_pid"
    disown
    until_ok 60 "waiting for https://127.0.0.1:$port/readyz" is_ready
    (umask 077 && "$secctl" kubeconfig --data-dir "$dir/server" --ttl 8h >"$dir/kubeconfig" 2>/dev/null)
    good "an administrator's kubeconfig with a certificate for 8 hours: $dir/kubeconfig"
    until_ok 90 "waiting for the node" k wait --for=condition=Ready node --all --timeout=1s
    show kubectl get nodes -o wide
}

import_images() {
    step "Building two small images from Debian packages and importing them"
    "$here/images/build.sh" "$dir/images" | sed 's/^/  /'
    local image
    for image in "$dir"/images/*.tar; do
        "$secctl" image import --node-dir "$dir/node" "$image" >/dev/null || fail "importing $image"
        good "imported and inventoried ${image##*/}"
    done
}

apply_manifests() {
    step "Applying manifests written for Kubernetes, with $(command "$kubectl_program" version --client 2>/dev/null | head -n 1)"
    local file
    for file in db-credentials web-app encryption-service encryption-deployment viewer; do
        show kubectl apply -f "$here/$file.yaml"
    done
    show kubectl rollout status deployment/web-app --timeout=180s
    show kubectl rollout status deployment/encryption-deployment --timeout=180s
    until_ok 90 "waiting for the pod with two containers" k wait --for=condition=Ready pod/encryption-service --timeout=1s
    running app=web-app 3 || fail "web-app has not three running pods"
    show kubectl get pods,services -o wide
    good "three replicas of web-app are Running"
}

reach_service() {
    step "The Service answers: from inside a pod by its DNS name, from outside by port-forward"
    local answer pod local_port
    pod=$(first_pod app=web-app)
    answer=$(k exec "$pod" -- timeout 10 wget -q -O - http://web-app.default.svc.cluster.local/) || fail "the Service did not answer inside"
    printf '%s\n' "$answer" | sed 's/^/  /'
    [[ $answer == *"version: 1.2.0"* ]] || fail "the Service answered something else"
    good "http://web-app.default.svc.cluster.local/ answers inside the pod $pod"

    local_port=$(free_port 18080)
    k port-forward service/web-app "$local_port:80" >"$dir/forward.log" 2>&1 &
    forward=$!
    until_ok 20 "waiting for kubectl port-forward" grep -q 'Forwarding from' "$dir/forward.log"
    answer=$(curl -sS --max-time 10 "http://127.0.0.1:$local_port/") || fail "the forwarded port did not answer"
    stop_forward
    [[ $answer == *"version: 1.2.0"* ]] || fail "the forwarded port answered something else"
    good "http://127.0.0.1:$local_port/ answered through kubectl port-forward"
}

check_secret() {
    step "The Secret is read by the pod, and its plaintext is on no disk"
    local pod password canary found
    pod=$(first_pod app=web-app)
    password=$(k exec "$pod" -- sh -c 'printf %s "$DB_PASSWORD"')
    [ "$password" = password ] || fail "DB_PASSWORD is not what the Secret says"
    good "the pod reads DB_PASSWORD (${#password} characters)"
    # A word that is nowhere else, so that finding it proves something.
    canary=canary-$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')
    k apply -f - >/dev/null <<END
apiVersion: v1
kind: Secret
metadata: {name: demo-canary}
stringData: {value: $canary}
---
apiVersion: v1
kind: Pod
metadata: {name: demo-canary}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: one
    image: myapp:1.2.0
    env:
    - {name: VALUE, valueFrom: {secretKeyRef: {name: demo-canary, key: value}}}
    volumeMounts:
    - {name: value, mountPath: /secret}
  volumes:
  - {name: value, secret: {secretName: demo-canary}}
END
    until_ok 60 "waiting for a pod with a random secret in a variable and in a file" k wait --for=condition=Ready pod/demo-canary --timeout=1s
    [ "$(k exec demo-canary -- sh -c 'echo "$VALUE $(cat /secret/value)"' | tr -d '\r')" = "$canary $canary" ] || fail "the pod does not read its secret"
    found=$(on_disk "$canary" "$(printf %s "$canary" | base64 -w 0 | cut -c 1-40)" cGFzc3dvcmQ=)
    [ -z "$found" ] || fail "a secret is in plaintext in: $found"
    k delete pod,secret demo-canary --wait=false >/dev/null
    good "grep finds neither it nor its base64 under $dir/server and $dir/node"
}

look_inside() {
    step "What a container may do"
    local pod facts
    pod=$(first_pod app=web-app)
    facts=$(k exec "$pod" -- sh -c 'grep -E "^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; echo "uid_map: $(cat /proc/self/uid_map | tr -s " ")"')
    printf '%s\n' "$facts" | sed 's/^/  /'
    grep -q 'NoNewPrivs:[[:space:]]*1' <<<"$facts" || fail "no-new-privileges is off"
    grep -q 'Seccomp:[[:space:]]*2' <<<"$facts" || fail "seccomp is off"
    [ "$(grep 'uid_map' <<<"$facts" | awk '{print $3}')" != 0 ] || fail "root in the pod is the host's root"
    good "rootless: root in this pod would be nobody on the host; seccomp and no-new-privileges are on"
    if k api-resources --api-group=martello.dev 2>/dev/null | grep -q imageinventories; then
        show kubectl get imageinventories
        good "every image was inventoried on this node before its first start"
    fi
}

work_with_it() {
    step "Working with it: logs, exec, scale, set image, rollout, undo"
    local pod
    show kubectl logs deployment/web-app --tail=3
    show kubectl exec "$(first_pod app=web-app)" -- id
    show kubectl scale deployment/web-app --replicas=5
    show kubectl rollout status deployment/web-app --timeout=120s
    show kubectl scale deployment/web-app --replicas=3
    show kubectl set image deployment/web-app web=myapp:1.3.0
    show kubectl rollout status deployment/web-app --timeout=180s
    until_ok 30 "waiting for version 1.3.0 behind the Service" serves 1.3.0
    show kubectl rollout undo deployment/web-app
    show kubectl rollout status deployment/web-app --timeout=180s
    until_ok 30 "waiting for version 1.2.0 behind the Service" serves 1.2.0
    good "rolled forward and back"

    step "A killed container comes back"
    pod=$(first_pod app=web-app)
    k exec "$pod" -- sh -c 'kill -TERM 1' || true
    until_ok 60 "waiting for the restart of $pod" restarted "$pod" 1
    show kubectl get pod "$pod"
}
serves() { k exec "$(first_pod app=web-app)" -- timeout 5 wget -q -O - http://web-app/ | grep -q "version: $1"; }

deny_viewer() {
    step "A viewer sees workloads, is denied the Secret, and is told why"
    (umask 077 && "$secctl" kubeconfig --data-dir "$dir/server" --user viewer --group viewers --ttl 1h >"$dir/viewer" 2>/dev/null)
    local said
    command "$kubectl_program" --kubeconfig "$dir/viewer" --cache-dir "$dir/cache" get deployments | sed 's/^/  /'
    if said=$(command "$kubectl_program" --kubeconfig "$dir/viewer" --cache-dir "$dir/cache" get secret db-credentials -o yaml 2>&1); then
        fail "the viewer reads the Secret"
    fi
    printf '  %s\n' "$said"
    [[ $said == *viewer* && $said == *secrets* ]] || fail "the denial does not say who was denied what"
    good "denied"
}

show_audit() {
    step "Every request is in the audit trail, and the trail is whole"
    show "$secctl" audit verify --data-dir "$dir/server" --root-key-file "$dir/root-key"
    show "$secctl" audit tail --data-dir "$dir/server" --root-key-file "$dir/root-key" -n 10
}

up() {
    if [ -f "$server_pid" ] && kill -0 "$(cat "$server_pid")" 2>/dev/null; then
        echo "The demo is running already: export KUBECONFIG=$dir/kubeconfig, or \`make down\` first." >&2
        exit 1
    fi
    [ ! -e "$dir/server" ] || take_down
    command -v "$kubectl_program" >/dev/null || fail "there is no kubectl: apt-get install kubernetes-client"
    trap stop_forward EXIT
    trap '[ $BASHPID != $$ ] || fail "line $LINENO: $BASH_COMMAND"' ERR
    trap 'exit 130' INT TERM
    start_cluster
    import_images
    apply_manifests
    reach_service
    check_secret
    look_inside
    work_with_it
    deny_viewer
    show_audit
    step "Done. The cluster goes on running. Try next:"
    cat <<END
  export KUBECONFIG=$dir/kubeconfig PATH=$dir/bin:\$PATH
  kubectl get pods -o wide                          what runs
  kubectl explain deployment.spec.strategy          the API describes itself
  kubectl auth can-i get secrets --as viewer        what the policy says
  kubectl run risky --image=myapp:1.2.0 --privileged    what is refused, and how to change it
  kubectl port-forward service/web-app 8080:80      then http://127.0.0.1:8080/
  secctl audit tail --data-dir $dir/server --root-key-file $dir/root-key
  make down                                         takes everything away
END
}

# -- taking away -----------------------------------------------------------------------------------------------------

# Processes that run the demo's own copy of secctl.
own_processes() {
    local exe pid
    for exe in /proc/[0-9]*/exe; do
        pid=${exe#/proc/}
        if [[ $(readlink "$exe" 2>/dev/null || true) == "$secctl"* ]]; then echo "${pid%/exe}"; fi
    done
}
gone() { ! kill -0 "$1" 2>/dev/null; }

take_down() {
    local pid path left=()
    if [ -f "$server_pid" ]; then
        pid=$(cat "$server_pid")
        # A number may belong to somebody else by now.
        if [[ $(readlink "/proc/$pid/exe" 2>/dev/null || true) == "$secctl"* ]]; then
            kill -TERM "$pid" 2>/dev/null || true
            server_pid=/nonexistent until_ok 40 "stopping the server and the agent" gone "$pid"
        fi
    fi
    # The node's processes, namespaces, mounts and control groups; pods outlive their agent.
    if [ -x "$secctl" ] && [ -d "$dir/node" ]; then
        "$secctl" node-cleanup --data-dir "$dir/node" || true
    fi
    for pid in $(own_processes); do kill -KILL "$pid" 2>/dev/null || true; done
    for pid in $(own_processes); do server_pid=/nonexistent until_ok 10 "ending process $pid" gone "$pid"; done
    for path in $(awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r); do
        umount -l "$path" || left+=("mount $path")
    done
    if [ -e "$dir/made-user" ]; then
        userdel martello 2>/dev/null || left+=("user martello")
    fi
    rm -rf --one-file-system "$dir"
    [ ! -e "$dir" ] || left+=("$dir")
    if [ ${#left[@]} -gt 0 ]; then
        printf 'could not remove: %s\n' "${left[*]}" >&2
        exit 1
    fi
}

down() {
    if [ ! -e "$dir" ]; then
        echo "There is no demo in $dir."
        return
    fi
    take_down
    echo "The demo is gone: no process, mount, namespace or file of it is left."
}

"$action"
