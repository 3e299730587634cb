# shellcheck shell=bash disable=SC2154,SC2016
# What shows: get in all its forms, watch, explain, api-resources, events, cluster-info, config, proxy.

forms() {
    kubectl create deployment shown --image=myapp:1.2.0 --replicas=0
    kubectl create configmap shown-b --from-literal=n=2
    kubectl create configmap shown-a --from-literal=n=3
    kubectl label configmap shown-a shown-b group=shown
    is 'configmap/shown-a
configmap/shown-b' kubectl get configmaps -l group=shown -o name
    says '^NAME +READY +UP-TO-DATE +AVAILABLE +AGE +CONTAINERS +IMAGES +SELECTOR' kubectl get deployment shown -o wide
    says 'kind: Deployment' kubectl get deployment shown -o yaml
    says '"kind": "Deployment"' kubectl get deployment shown -o json
    refuse_managed_fields
    says 'managedFields' kubectl get deployment shown -o yaml --show-managed-fields
    is '3,2,' kubectl get configmaps -l group=shown -o 'jsonpath={range .items[*]}{.data.n},{end}'
    is 'shown-a shown-b ' kubectl get configmaps -l group=shown -o 'go-template={{range .items}}{{.metadata.name}} {{end}}'
    is 'NAME      N
shown-a   3
shown-b   2' kubectl get configmaps -l group=shown -o 'custom-columns=NAME:.metadata.name,N:.data.n'
    is 'configmap/shown-b
configmap/shown-a' kubectl get configmaps -l group=shown --sort-by=.data.n -o name
    is configmap/shown-b kubectl get configmaps --field-selector=metadata.name=shown-b -o name
    says '^NAME +DATA +AGE +LABELS.*group=shown' kubectl get configmaps -l group=shown --show-labels
    says '^NAME +DATA +AGE +GROUP.*shown' kubectl get configmaps -l group=shown -L group
    says '^shown-a +1 ' kubectl get configmap shown-a --no-headers
    says 'deployment.apps/shown .*configmap/shown-a ' kubectl get deployment/shown configmap/shown-a
    says 'configmap/kube-root-ca.crt' kubectl get configmap --chunk-size=1 -o name
    says 'deployment.apps/shown' kubectl get all
    says 'kube-root-ca.crt' cluster get configmaps --all-namespaces --field-selector=metadata.namespace=default
    refuses 'configmaps "none" not found' kubectl get configmap none
    refuses "the server doesn't have a resource type \"nothings\"" kubectl get nothings
    says 'No resources found in' kubectl get jobs -l none=such
    says '"items":\[' cluster get --raw "/api/v1/namespaces/$namespace/configmaps?limit=1"
    refuses '"data" is not a known field selector: only "metadata.name", "metadata.namespace"' kubectl get configmaps --field-selector=data=x
}
refuse_managed_fields() { ! kubectl get deployment shown -o yaml | grep managedFields; }
watch() {
    background "$SCRATCH/watched" get configmaps -l group=watched -w --output-watch-events --no-headers
    local watcher=$!
    # Changes come until the first is seen; then it watches.
    eventually 20 watched_something
    kubectl create configmap watched --dry-run=client -o yaml | kubectl label --local -f - group=watched -o yaml | kubectl create -f -
    kubectl label configmap watched more=1
    kubectl label configmap watched group=other --overwrite
    eventually 10 grep -Eq '^ADDED +watched ' "$SCRATCH/watched"
    eventually 10 grep -Eq '^MODIFIED +watched ' "$SCRATCH/watched"
    # It does not match any more: for this watcher it is gone.
    eventually 10 grep -Eq '^DELETED +watched ' "$SCRATCH/watched"
    kill "$watcher"
    wait "$watcher" 2>/dev/null || true
    # One object, as YAML, to its end.
    kubectl create configmap watched-one --from-literal=a=first
    background "$SCRATCH/watched-one" get configmap watched-one -w -o 'jsonpath={.data.a}.{"\n"}'
    watcher=$!
    eventually 20 grep -q '^first\.' "$SCRATCH/watched-one"
    kubectl patch configmap watched-one --type=merge -p '{"data":{"a":"seen"}}'
    eventually 10 grep -q 'seen' "$SCRATCH/watched-one"
    kill "$watcher"
    wait "$watcher" 2>/dev/null || true
}
watched_something() {
    kubectl delete configmap signal --ignore-not-found
    kubectl create configmap signal
    kubectl label configmap signal group=watched
    grep -q signal "$SCRATCH/watched"
}
explain() {
    says 'FIELDS:.*replicas.*strategy' kubectl explain deployment.spec
    says 'httpGet.*(<Object>|<HTTPGetAction>).*periodSeconds.*<integer>' kubectl explain pod.spec.containers.livenessProbe
    says 'preferredDuringSchedulingIgnoredDuringExecution' kubectl explain pod.spec.affinity.nodeAffinity --recursive
    says 'behavior' kubectl explain horizontalpodautoscalers.spec --api-version=autoscaling/v2
    says 'targetCPUUtilizationPercentage' kubectl explain horizontalpodautoscalers.spec --api-version=autoscaling/v1
    refuses 'field "nothing" does not exist' kubectl explain pod.spec.nothing
    refuses "the server doesn't have a resource type|couldn't find resource" kubectl explain nothing
}
explain_v2() { says 'replicas' kubectl explain deployment.spec --output=plaintext-openapiv2; }
resources() {
    says 'deployments +deploy +apps/v1 +true +Deployment' cluster api-resources
    says 'nodes' cluster api-resources --namespaced=false -o name
    refuses_line nodes cluster api-resources --namespaced=true -o name
    says 'horizontalpodautoscalers +hpa +autoscaling/v2 ' cluster api-resources --api-group=autoscaling
    says 'VERBS.*configmaps +cm .*create.*delete.*deletecollection.*watch' cluster api-resources -o wide --sort-by=name
    says 'apps/v1' cluster api-versions
    says 'policy/v1' cluster api-versions
    refuses_line 'policy/v1beta1' cluster api-versions
    says 'deployments.apps' cluster api-resources --verbs=list,patch -o name
    since 24 says 'deployments.apps' cluster api-resources --categories=all -o name
}
refuses_line() {
    local line=$1
    shift
    ! "$@" | grep -qx "$line"
}
versions() {
    says 'v1.36.' cluster version
    says '"gitVersion": "v1.36.' cluster version -o json
}
events() {
    kubectl create -f - <<END
apiVersion: v1
kind: Event
metadata: {name: noted, namespace: $namespace}
involvedObject: {apiVersion: v1, kind: ConfigMap, namespace: $namespace, name: shown-a, uid: $(value configmap shown-a .metadata.uid)}
reason: Noted
message: by hand
type: Warning
count: 3
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:00:00Z"
END
    says 'Warning +Noted +configmap/shown-a +by hand' kubectl get events --field-selector=reason=Noted
    says 'Noted.*by hand' kubectl get events --sort-by=.lastTimestamp
    is noted kubectl get events --field-selector=involvedObject.name=shown-a,type=Warning -o 'jsonpath={.items[*].metadata.name}'
    says 'Noted.*by hand' kubectl describe configmap shown-a
}
events_command() {
    says 'Warning +Noted +ConfigMap/shown-a +by hand' kubectl events --for=configmap/shown-a
    says 'Noted' kubectl events --types=Warning
}
describe_many() {
    kubectl describe all
    says 'Name: +kubernetes' cluster --namespace=default describe service kubernetes
    says 'Name: +default.*Status: +Active' cluster describe namespace default
    says 'Name: +system:node' cluster describe clusterrole system:node
    says 'Role:.*cluster-admin' cluster describe clusterrolebinding cluster-admin
    says 'Value: +2000000000' cluster describe priorityclass system-cluster-critical
    says 'Name: +shown' kubectl describe replicasets
    says 'catch-all' cluster describe flowschemas
    says 'workload-low' cluster describe prioritylevelconfigurations
    says 'Kind: +Lease' cluster describe leases --all-namespaces
    says 'AddressType' cluster describe endpointslices --all-namespaces
    says 'v1.apps' cluster describe apiservices
}
cluster_info() {
    says 'Kubernetes control plane.* is running at .*https://' cluster cluster-info
    kubectl cluster-info dump --output-directory="$SCRATCH/dump" --namespaces="$namespace"
    says '"shown"' cat "$SCRATCH/dump/$namespace/deployments.json"
    says 'HTTP/1.1 200|ok' cluster get --raw /readyz
    says 'apiserver_request' cluster get --raw /metrics
    says 'controller-manager +Healthy' cluster get componentstatuses
}
configuration() {
    cp "$KUBECONFIG" "$SCRATCH/config"
    local context
    context=$(cluster --kubeconfig "$SCRATCH/config" config current-context)
    says "$context" cluster --kubeconfig "$SCRATCH/config" config get-contexts
    cluster --kubeconfig "$SCRATCH/config" config set-context other --cluster="$(cluster --kubeconfig "$SCRATCH/config" config view -o 'jsonpath={.clusters[0].name}')" --user="$(cluster --kubeconfig "$SCRATCH/config" config view -o 'jsonpath={.users[0].name}')" --namespace="$namespace"
    cluster --kubeconfig "$SCRATCH/config" config use-context other
    is configmap/shown-a cluster --kubeconfig "$SCRATCH/config" get configmap shown-a -o name
    says 'namespace: ' cluster --kubeconfig "$SCRATCH/config" config view --minify
}
proxied() {
    background "$SCRATCH/proxy" proxy --port=0
    local proxy=$! address
    eventually 20 grep -q 'Starting to serve on' "$SCRATCH/proxy"
    address=$(grep -oE '127.0.0.1:[0-9]+' "$SCRATCH/proxy")
    says '"gitVersion": "v1.36.' curl -sS "http://$address/version"
    says '"name": *"shown-a"' curl -sS "http://$address/api/v1/namespaces/$namespace/configmaps/shown-a"
    kill "$proxy"
    wait "$proxy" 2>/dev/null || true
}
metrics_missing() { refuses 'Metrics API not available' kubectl top pods; refuses 'Metrics API not available' cluster top nodes; }

step "get in all its forms" forms
step "get --watch" watch
step "explain" explain
since 27 step "explain --output=plaintext-openapiv2" explain_v2
step "api-resources, api-versions" resources
step "version" versions
step "get events" events
since 26 step "events" events_command
step "describe" describe_many
step "cluster-info, dump, get --raw" cluster_info
step "config" configuration
step "proxy" proxied
step "top says that there are no metrics" metrics_missing
