# shellcheck shell=bash disable=SC2154,SC2016
# Nodes: cordon, uncordon, drain, taint, label, describe.

node() { cluster get nodes -o 'jsonpath={.items[0].metadata.name}'; }
look() {
    says 'NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP' cluster get nodes -o wide
    says 'Conditions:.*Ready +True.*Capacity:.*Allocatable:.*Non-terminated Pods' cluster describe node "$(node)"
    cluster label node "$(node)" "example.com/$mine=yes"
    is "$(node)" cluster get nodes -l "example.com/$mine" -o 'jsonpath={.items[*].metadata.name}'
    cluster label node "$(node)" "example.com/$mine-"
}
taint() {
    says 'tainted' cluster taint node "$(node)" "example.com/$mine=x:PreferNoSchedule"
    refuses 'already has .* taint|already tainted' cluster taint node "$(node)" "example.com/$mine=x:PreferNoSchedule"
    says 'untainted' cluster taint node "$(node)" "example.com/$mine-"
}
drain() {
    local deployment=drained
    kubectl create deployment "$deployment" --image=myapp:1.2.0 --replicas=1
    kubectl patch deployment "$deployment" -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":1}}}}'
    rolled_out "deployment/$deployment"
    says 'cordoned' cluster cordon "$(node)"
    says 'SchedulingDisabled' cluster get node "$(node)"
    kubectl create poddisruptionbudget "$deployment" --selector=app="$deployment" --min-available=1
    eventually 20 is 1 value pdb "$deployment" .status.currentHealthy
    refuses "Cannot evict pod as it would violate the pod's disruption budget" cluster drain "$(node)" --pod-selector=app="$deployment" --timeout=7s
    kubectl delete poddisruptionbudget "$deployment"
    says 'evicted|drained' cluster drain "$(node)" --pod-selector=app="$deployment" --timeout=60s
    eventually 20 is Pending value pod "$(kubectl get pods -l app="$deployment" -o 'jsonpath={.items[0].metadata.name}')" .status.phase
    says 'uncordoned' cluster uncordon "$(node)"
    rolled_out "deployment/$deployment"
    kubectl delete deployment "$deployment"
}

# What would take the node over is refused, and the words say by which rule; a pod beside it is not.
debug_node() {
    refuses 'is forbidden: violates Martello pod security: host namespaces .*policy "pod-security/host-namespaces"' kubectl debug "node/$(node)" --image=myapp:1.2.0
    [ "$minor" -ge 27 ] || return 0
    local pod
    kubectl debug "node/$(node)" --image=myapp:1.2.0 --profile=baseline --attach=false
    pod=$(kubectl get pods -o name | grep node-debugger)
    running "$pod"
    is "$(node)" kubectl get "$pod" -o 'jsonpath={.spec.nodeName}'
    kubectl delete "$pod" --now
}

step_of_pods "get, describe and label nodes" look
step_of_pods "taint" taint
step_of_pods "cordon, drain, uncordon" drain
step_of_pods "debug node" debug_node
