#!/bin/bash
# Prometheus finds what there is to scrape, as it comes and goes, over a restart of the server: prometheus.sh PROMETHEUS KUBECTL.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/clients/steps.sh
. "$here/steps.sh"

program=$(type -P "$1")
client=$(type -P "$2")
namespace=prometheus
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
kubectl() { "$client" --cache-dir "$SCRATCH/cache" --namespace "$namespace" "$@"; }

# found ROLE LABEL: what is in this label of the targets of a role.
found() {
    curl -sS --max-time 10 "http://127.0.0.1:$port/api/v1/targets" | python3 -c '
import json, sys
role, label = sys.argv[1:]
targets = json.load(sys.stdin)["data"]["activeTargets"]
print(" ".join(sorted({target["discoveredLabels"].get(label, "") for target in targets if target["scrapePool"] == role})))
' "$1" "__meta_kubernetes_$2"
}
start() {
    {
        echo 'scrape_configs:'
        printf -- '- {job_name: node, kubernetes_sd_configs: [{role: node, kubeconfig_file: %s}]}\n' "$KUBECONFIG"
        local role
        for role in pod service endpoints endpointslice ingress; do
            printf -- '- {job_name: %s, kubernetes_sd_configs: [{role: %s, kubeconfig_file: %s, namespaces: {names: [%s]}}]}\n' \
                "$role" "$role" "$KUBECONFIG" "$namespace"
        done
    } >"$SCRATCH/prometheus.yml"
    "$program" --config.file="$SCRATCH/prometheus.yml" --storage.tsdb.path="$SCRATCH/data" \
        --web.listen-address="127.0.0.1:$port" >"$SCRATCH/log" 2>&1 &
    prometheus=$!
    # A step ends what it knows of.
    disown
    trap 'kill "$prometheus" 2>/dev/null' EXIT
}
ready() { eventually 60 says 'Ready' curl -sS --max-time 2 "http://127.0.0.1:$port/-/ready"; }
services() {
    kubectl create service clusterip one --tcp=80
    kubectl create ingress web --rule='shop.example.com/=one:80'
    kubectl create -f - <<END
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one-by-hand, labels: {kubernetes.io/service-name: one}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.7]}]
ports: [{name: http, port: 80}]
END
    eventually 30 is one found service service_name
    eventually 30 is shop.example.com found ingress ingress_host
    eventually 30 says 'one-by-hand' found endpointslice endpointslice_name
}
pods() {
    eventually 30 is "$(kubectl get nodes -o 'jsonpath={.items[*].metadata.name}')" found node node_name
    kubectl run web --image=myapp:1.2.0 --port=3000 --labels=app=web --overrides='{"spec":{"terminationGracePeriodSeconds":1}}'
    kubectl expose pod web --port=80 --target-port=3000
    eventually 60 is web found pod pod_name
    eventually 30 says 'web' found endpoints endpoints_name
    kubectl delete pod web
    eventually 60 is '' found pod pod_name
}
restart() {
    "$RESTART_SERVER"
    kubectl create service clusterip two --tcp=80
    kubectl delete service one
    eventually 60 says '(^| )two( |$)' found service service_name
    eventually 30 gone_from service one
}
gone_from() {
    local there
    there=$(found "$1" service_name)
    [[ " $there " != *" $2 "* ]] || { echo "$there"; return 1; }
}

"$program" --version 2>&1 | head -n 1
step "create namespace" kubectl create namespace "$namespace" || finish_steps
start
step "starts" ready || finish_steps
step "finds services, ingresses and endpoint slices" services
step_of_pods "finds nodes, pods and endpoints, and loses a pod that goes" pods
step "finds on after the server was killed" restart
step "delete namespace" kubectl delete namespace "$namespace" --wait --timeout=60s
finish_steps
