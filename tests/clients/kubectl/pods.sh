# shellcheck shell=bash disable=SC2154,SC2016
# Running pods: run, logs, exec, cp, attach, port-forward, debug.

pod() {
    printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: %s}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: main, image: "myapp:1.2.0", ports: [{containerPort: 3000}], %s}]\n' "$1" "$1" "${2:-stdin: false}"
}
start_pod() {
    pod talker 'stdin: true, command: [sh, -c, "echo begin; echo warned >&2; exec sh -c \"busybox httpd -p 3000 -h /www; while read line; do echo got \\$line; done; sleep 600\""]' | kubectl apply -f -
    running pod/talker
}
run_attached() {
    # kubectl 1.22.0 to 1.22.2 wait for a watch to end that does not end, unless they leave their own headers out.
    if [ "$minor" = 22 ]; then export KUBECTL_COMMAND_HEADERS=0; fi
    # Attached before it ends: it waits for its input.
    says 'hello from the pod' run_with_input 'hello from the pod' kubectl run attached --image=myapp:1.2.0 --restart=Never -i --rm --command -- cat
    gone pod attached
    local status=0
    run_with_input x kubectl run failing --image=myapp:1.2.0 --restart=Never -i --rm --command -- sh -c 'cat; exit 3' || status=$?
    [ "$status" = 3 ] || { echo "status $status instead of 3"; return 1; }
}
run_with_input() {
    local input=$1
    shift
    printf '%s\n' "$input" | "$@"
}
logs() {
    is 'begin
warned' kubectl logs talker
    is warned kubectl logs talker --tail=1
    says '^20[0-9T:.-]+Z begin' kubectl logs talker --timestamps
    # It may have been written within this second.
    eventually 20 is '' kubectl logs talker --since=1s
    says 'begin' kubectl logs talker --since=1h
    is 'be' kubectl logs talker --limit-bytes=2
    says '\[pod/talker/main\] begin' kubectl logs -l app=talker --prefix --all-containers
    refuses 'container nothing is not valid for pod talker' kubectl logs talker -c nothing
    refuses 'previous terminated container "main" in pod "talker" not found' kubectl logs talker --previous
    background "$SCRATCH/followed" logs -f talker
    local follower=$!
    eventually 20 grep -q begin "$SCRATCH/followed"
    printf 'more\n' | timeout 5 "$program" --cache-dir "$SCRATCH/cache" -n "$namespace" attach talker -i >/dev/null 2>&1 || true
    eventually 20 grep -q 'got more' "$SCRATCH/followed"
    kill "$follower"
    wait "$follower" 2>/dev/null || true
}
previous_logs() {
    pod once 'command: [sh, -c, "echo first life; exit 1"]' | kubectl apply -f -
    eventually 60 says '^[1-9]' value pod once '.status.containerStatuses[0].restartCount'
    eventually 20 is 'first life' kubectl logs once --previous
    kubectl delete pod once --now
}
execute() {
    is 'out' kubectl exec talker -- echo out
    is 'err' stderr_of kubectl exec talker -- sh -c 'echo err >&2'
    is 'abc' run_with_input abc kubectl exec -i talker -- cat
    local status=0
    kubectl exec talker -- sh -c 'exit 42' || status=$?
    [ "$status" = 42 ] || { echo "status $status instead of 42"; return 1; }
    is 'out' kubectl exec talker -c main -- echo out
    refuses 'container nothing is not valid for pod talker|container not found' kubectl exec talker -c nothing -- true
    refuses 'not found|no such file' kubectl exec talker -- /no/such/program
    refuses 'pods "missing" not found' kubectl exec missing -- true
    is 'out' kubectl exec pod/talker -- echo out
    # A terminal: what a terminal does to line ends tells that there is one.
    says 'tty' script -qec "$program --cache-dir $SCRATCH/cache -n $namespace exec -it talker -- sh -c 'test -t 0 && test -t 1 && echo tty'" /dev/null
    head -c 3000000 /dev/urandom >"$SCRATCH/large"
    is "$(sha256sum <"$SCRATCH/large" | cut -d' ' -f1)" sent_and_summed
}
# shellcheck disable=SC2069
stderr_of() { "$@" 2>&1 >/dev/null; }
sent_and_summed() { kubectl exec -i talker -- sha256sum <"$SCRATCH/large" | cut -d' ' -f1; }
copy() {
    mkdir -p "$SCRATCH/tree/below"
    echo one >"$SCRATCH/tree/one"
    echo two >"$SCRATCH/tree/below/two"
    kubectl cp "$SCRATCH/tree" talker:/tmp/tree
    is $'one\ntwo' kubectl exec talker -- cat /tmp/tree/one /tmp/tree/below/two
    kubectl cp talker:/tmp/tree "$SCRATCH/back"
    is '' diff -r "$SCRATCH/tree" "$SCRATCH/back"
    kubectl cp "$SCRATCH/large" "$namespace/talker:/tmp/large" -c main
    kubectl cp "$namespace/talker:/tmp/large" "$SCRATCH/large-back"
    cmp "$SCRATCH/large" "$SCRATCH/large-back"
}
forward() {
    kubectl expose pod talker --port=80 --target-port=3000
    local target
    for target in pod/talker:3000 service/talker:80; do
        background "$SCRATCH/forward" port-forward "${target%:*}" ":${target#*:}"
        local forwarder=$! port
        eventually 20 grep -q 'Forwarding from 127.0.0.1' "$SCRATCH/forward"
        port=$(grep -oE '127.0.0.1:[0-9]+' "$SCRATCH/forward" | head -n 1)
        says 'version: 1.2.0' curl -sS --max-time 10 "http://$port/cgi-bin/index.cgi"
        # Several at once over the one connection.
        says '1.2.0.*1.2.0.*1.2.0' curl -sS --max-time 20 --parallel "http://$port/cgi-bin/index.cgi" "http://$port/cgi-bin/index.cgi" "http://$port/cgi-bin/index.cgi"
        kill "$forwarder"
        wait "$forwarder" 2>/dev/null || true
    done
    says 'version: 1.2.0' cluster get --raw "/api/v1/namespaces/$namespace/pods/talker:3000/proxy/cgi-bin/index.cgi"
    says 'version: 1.2.0' cluster get --raw "/api/v1/namespaces/$namespace/services/talker:80/proxy/cgi-bin/index.cgi"
}
debug() {
    # Its default profile asks for a capability that has to be allowed by name, since 1.36.
    local profile=()
    if [ "$minor" -ge 36 ]; then
        refuses 'must not include "SYS_PTRACE"' kubectl debug talker --image=myapp:1.2.0 --container=tracer --attach=false -- true
        profile=(--profile=baseline)
    fi
    kubectl debug talker "${profile[@]}" --image=myapp:1.2.0 --container=debugger --attach=false -- sh -c 'echo seen by the debugger; sleep 600'
    eventually 30 is 'seen by the debugger' kubectl logs talker -c debugger
    says 'debugger.*myapp:1.2.0' kubectl get pod talker -o 'jsonpath={.spec.ephemeralContainers[*].name} {.spec.ephemeralContainers[*].image}'
    says 'Ephemeral Containers:' kubectl describe pod talker
    kubectl debug talker "${profile[@]}" --copy-to=talker-copy --set-image='*=myapp:1.3.0' --attach=false
    running pod/talker-copy
    is myapp:1.3.0 value pod talker-copy '.spec.containers[0].image'
    kubectl delete pod talker-copy --now
}
shown() {
    says 'NAME +READY +STATUS +RESTARTS +AGE +IP +NODE.*talker +1/1 +Running +0 ' kubectl get pod talker -o wide
    says 'Name: +talker.*Status: +Running.*Containers:.*State: +Running.*Conditions:.*Ready +True.*QoS Class: +BestEffort.*Events:.*Scheduled.*Started' kubectl describe pod talker
    is pod/talker kubectl get pods --field-selector=status.phase=Running,spec.restartPolicy=Always -l app=talker -o name
    says 'deleted' kubectl delete pod talker --grace-period=1
    gone pod talker
}

step_of_pods "apply a pod, wait until it is ready" start_pod || return 0
step_of_pods "run -i --rm" run_attached
step_of_pods "logs, logs -f, attach" logs
step_of_pods "logs --previous" previous_logs
step_of_pods "exec" execute
step_of_pods "cp" copy
step_of_pods "port-forward, proxy" forward
since 25 step_of_pods "debug" debug
step_of_pods "get, describe, delete of a running pod" shown
