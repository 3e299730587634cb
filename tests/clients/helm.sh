#!/bin/bash
# Helm works with a chart of hooks, a custom kind and what charts usually hold: helm.sh HELM KUBECTL
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/clients/steps.sh
. "$here/steps.sh"

helm_program=$(type -P "$1")
kubectl_program=$(type -P "$2")
version=$("$helm_program" version --template '{{.Version}}')
major=${version#v}
minor=${major#*.}
major=${major%%.*} minor=${minor%%.*}
namespace=helm-$major-$minor
release=shop
export HELM_CACHE_HOME=$SCRATCH/cache HELM_CONFIG_HOME=$SCRATCH/config HELM_DATA_HOME=$SCRATCH/data

helm() { "$helm_program" --namespace "$namespace" "$@"; }
kubectl() { "$kubectl_program" --cache-dir "$SCRATCH/kubectl" --namespace "$namespace" "$@"; }
# Only where pods run is there anything to wait for.
wait=()
if [ "$PODS" = yes ]; then wait=(--wait --timeout 90s); fi
# The last versions of Helm 3 and all of Helm 4 know to render with the server's answers and change nothing.
since() { [ "$major" -gt 3 ] || [ "$minor" -ge "$1" ]; }
knows_server_side_dry_run() { since 13; }
if [ "$major" -gt 3 ]; then undo=--rollback-on-failure; else undo=--atomic; fi
# Without a node no Job ends, and Helm waits for its hooks.
hooks=()
if [ "$PODS" != yes ]; then hooks=(--no-hooks); fi

deployed() {
    is "$1 $2" kubectl get deployment "$release" -o 'jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}'
}
greeting() { is "$1" kubectl get configmap "$release" -o 'jsonpath={.data.greeting}'; }
revision_is() { says "\"revision\":\"?$1\"?,.*\"status\":\"$2\"" helm list -o json; }

lint() { says '0 chart\(s\) failed' helm lint "$here/chart" --set lookup=false; }
# `helm template` asks no server; its output is what any client may apply.
render_and_apply() {
    kubectl create namespace "$namespace"
    kubectl apply -f "$here/chart/crds"
    kubectl wait --for=condition=Established --timeout=30s crd/gadgets.shop.example.com
    helm template plain "$here/chart" --set lookup=false --no-hooks | kubectl apply --server-side -f -
    is '1 green' kubectl get gadgets plain -o 'jsonpath={.spec.size} {.spec.colour}'
    helm template plain "$here/chart" --set lookup=false,replicas=2 --no-hooks | kubectl apply --server-side -f -
    is 2 kubectl get gadgets plain -o 'jsonpath={.spec.size}'
}
dry_run() {
    says 'namespace-phase: "Active"' helm install "$release" "$here/chart" --dry-run=server
    refuses 'not found' kubectl get deployment "$release"
}
clear_away() {
    helm template plain "$here/chart" --set lookup=false --no-hooks | kubectl delete -f - --wait
    kubectl delete crd gadgets.shop.example.com --wait
    kubectl delete namespace "$namespace" --wait
}
install() {
    says "STATUS: deployed" helm install "$release" "$here/chart" --create-namespace "${wait[@]}" "${hooks[@]}"
    deployed 1 myapp:1.2.0
    greeting hello
    is 'Active nothing true' kubectl get configmap "$release" -o 'jsonpath={.data.namespace-phase} {.data.before} {.data.policy-api}'
    says '^v1\.36\.' kubectl get configmap "$release" -o 'jsonpath={.data.server}'
    is '1 green' kubectl get gadget "$release" -o 'jsonpath={.spec.size} {.spec.colour}'
    revision_is 1 deployed
}
keeper_ready() { is 1 kubectl get statefulset "$release-keeper" -o 'jsonpath={.status.readyReplicas}'; }
hook_ran() { is 1 kubectl get job "$release-$1" -o 'jsonpath={.status.succeeded}'; }
pods_ready() { is "$1/$1" kubectl get deployment "$release" -o 'jsonpath={.status.readyReplicas}/{.status.replicas}'; }
installed_pods() { pods_ready 1 && keeper_ready && hook_ran pre-install; }
install_again() { refuses 'cannot (re-use|reuse) a name' helm install "$release" "$here/chart"; }
upgrade() {
    says 'STATUS: deployed' helm upgrade "$release" "$here/chart" --set replicas=2,greeting=welcome "${wait[@]}" "${hooks[@]}"
    deployed 2 myapp:1.2.0
    greeting welcome
    # What the server had before this upgrade.
    is hello kubectl get configmap "$release" -o 'jsonpath={.data.before}'
    is 2 kubectl get gadget "$release" -o 'jsonpath={.spec.size}'
    revision_is 2 deployed
}
upgraded_pods() { pods_ready 2 && hook_ran post-upgrade; }
invalid_upgrade() {
    refuses 'spec.size.*(greater than or equal to 1)' helm upgrade "$release" "$here/chart" --set replicas=0
    is 2 kubectl get gadget "$release" -o 'jsonpath={.spec.size}'
    revision_is 3 failed
}
failing_upgrade() {
    refuses 'rolled back|rollback-on-failure' helm upgrade "$release" "$here/chart" "$undo" --wait --timeout 8s --no-hooks \
        --set replicas=2,greeting=broken,image=myapp:none
    deployed 2 myapp:1.2.0
    greeting welcome
}
history() {
    says 'superseded' helm history "$release"
    says 'Install complete' helm history "$release"
    says 'Upgrade complete' helm history "$release"
}
# Without a release it installs; what was set before stays.
upgrade_or_install() {
    says 'STATUS: deployed' helm upgrade --install "$release" "$here/chart" --reuse-values --set greeting=again "${wait[@]}" "${hooks[@]}"
    deployed 2 myapp:1.2.0
    greeting again
    says 'STATUS: deployed' helm upgrade --install second "$here/chart" --set replicas=1 --no-hooks
    is hello kubectl get configmap second -o 'jsonpath={.data.greeting}'
}
# A PUT in place of a PATCH: what the server allocated stays.
replace() {
    local address flag=--force
    if [ "$major" -gt 3 ]; then flag='--force-replace --server-side=false'; fi
    address=$(kubectl get service second -o 'jsonpath={.spec.clusterIP}')
    # Words on purpose.
    # shellcheck disable=SC2086
    says 'STATUS: deployed' helm upgrade second "$here/chart" $flag --set greeting=replaced --no-hooks
    is replaced kubectl get configmap second -o 'jsonpath={.data.greeting}'
    is "$address" kubectl get service second -o 'jsonpath={.spec.clusterIP}'
}
ownership() {
    # Helm 4 applies on the server, where kubectl owns what it wrote.
    local force=()
    if [ "$major" -gt 3 ]; then force=(--force-conflicts); fi
    kubectl create configmap taken --from-literal=greeting=mine
    refuses 'invalid ownership metadata' helm install taken "$here/chart" --no-hooks
    refuses 'not found' kubectl get deployment taken
    says 'STATUS: deployed' helm install taken "$here/chart" --no-hooks --take-ownership "${force[@]}"
    is 'hello taken' kubectl get configmap taken -o 'jsonpath={.data.greeting} {.metadata.annotations.meta\.helm\.sh/release-name}'
    helm uninstall taken --no-hooks
}
# Helm 4 applies on the server: who else owns a field is asked.
server_side() {
    is 'helm Apply' kubectl get configmap "$release" --show-managed-fields -o 'jsonpath={.metadata.managedFields[0].manager} {.metadata.managedFields[0].operation}'
    kubectl create configmap "$release" --from-literal=greeting=theirs --dry-run=client -o yaml |
        kubectl apply --server-side --force-conflicts --field-manager=somebody -f -
    refuses 'conflict with "somebody".*\.data\.greeting' helm upgrade "$release" "$here/chart" --reuse-values --set greeting=ours --no-hooks
    greeting theirs
    says 'STATUS: deployed' helm upgrade "$release" "$here/chart" --reuse-values --set greeting=ours --no-hooks --force-conflicts
    greeting ours
}
keep_history() {
    says 'uninstalled' helm uninstall second --keep-history --no-hooks
    refuses 'not found' kubectl get deployment second
    says 'uninstalled' helm list --uninstalled --filter '^second$' -o yaml
    says 'Rollback was a success' helm rollback second 1 --no-hooks
    is hello kubectl get configmap second -o 'jsonpath={.data.greeting}'
    says 'uninstalled' helm uninstall second --no-hooks
}
rollback() {
    says 'Rollback was a success' helm rollback "$release" 1 "${wait[@]}" "${hooks[@]}"
    deployed 1 myapp:1.2.0
    greeting hello
    says 'Rollback to 1' helm history "$release"
}
show() {
    says 'kind: NetworkPolicy' helm get manifest "$release"
    says 'replicas: 1' helm get values "$release" --all
    says 'helm.sh/hook: pre-install' helm get hooks "$release"
    says "$release .* runs 1 of myapp:1.2.0" helm get notes "$release"
    says 'STATUS: deployed' helm status "$release"
    says "${release}[[:space:]]+$namespace" helm list --all-namespaces
    says "^$release" helm list --short --deployed --filter "^$release\$"
    says 'myapp:1.2.0' helm get all "$release"
    if since 14; then says "NAME: $release.*VERSION: 1.0.0" helm get metadata "$release"; fi
    if [ "$major" = 3 ] && since 13; then says "deployment.apps/$release|Deployment.*$release" helm status "$release" --show-resources; fi
}
run_tests() { says 'Phase: +Succeeded' helm test "$release" --timeout 60s --logs; }
uninstall() {
    says 'uninstalled' helm uninstall "$release" --wait --timeout 60s "${hooks[@]}"
    is '' kubectl get deployments,statefulsets,cronjobs,services,configmaps,ingresses,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,gadgets -l 'release' -o name
    refuses 'not found' kubectl get gadget "$release"
    refuses 'not found' kubectl get secret "$release"
    refuses 'not found' helm status "$release"
    # A custom kind outlives its chart, since it may hold data.
    is gadgets.shop.example.com kubectl get crd gadgets.shop.example.com -o 'jsonpath={.metadata.name}'
}
tidy() {
    kubectl delete namespace "$namespace" --wait
    kubectl delete crd gadgets.shop.example.com --wait
}

printf 'helm %s\n' "$version"
step "lint" lint
step "template | kubectl apply, with a custom kind" render_and_apply
if knows_server_side_dry_run; then step "install --dry-run=server, with lookup" dry_run; fi
step "template | kubectl delete" clear_away
step "install, with a CRD and a custom object" install || finish_steps
step_of_pods "install --wait saw pods ready and ran its hook" installed_pods
step "install of a name that is taken is refused" install_again
step "upgrade changes replicas and configuration" upgrade
step_of_pods "upgrade --wait saw pods ready and ran its hook" upgraded_pods
step "upgrade with an invalid custom object is refused" invalid_upgrade
step_of_pods "upgrade $undo rolls back what does not become ready" failing_upgrade
step "upgrade --install, --reuse-values" upgrade_or_install
step "upgrade by replacing" replace
if since 17; then step "install --take-ownership" ownership; fi
if [ "$major" -gt 3 ]; then step "upgrade with server-side apply, conflicts and --force-conflicts" server_side; fi
step "uninstall --keep-history, rollback of what was uninstalled" keep_history
step "history" history
step "rollback" rollback
step "get manifest, values, hooks, notes; status; list" show
step_of_pods "test" run_tests
step "uninstall --wait" uninstall
step "nothing is left" tidy
finish_steps
