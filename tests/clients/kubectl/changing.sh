# shellcheck shell=bash disable=SC2154,SC2016
# What changes objects: apply in both ways, diff, edit, replace, patch, label, annotate, wait, delete.

configmap() { printf -- '---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, labels: {set: %s}}, data: {%s}}\n' "$1" "${3:-none}" "$2"; }

apply() {
    says 'configmap/applied created' kubectl apply -f - <<<"$(configmap applied 'a: "1", b: "1"')"
    says 'configmap/applied unchanged' kubectl apply -f - <<<"$(configmap applied 'a: "1", b: "1"')"
    kubectl patch configmap applied --type=merge -p '{"data":{"theirs":"1"}}'
    says 'configmap/applied configured' kubectl apply -f - <<<"$(configmap applied 'a: "2"')"
    # What was applied and isn't any more goes; what others set stays.
    is '{"a":"2","theirs":"1"}' value configmap applied .data
    says 'a: "2"' kubectl apply view-last-applied configmap applied
    says 'configured' kubectl apply set-last-applied -f - <<<"$(configmap applied 'a: "2", theirs: "1"')"
    says 'configmap/applied configured' kubectl apply -f - <<<"$(configmap applied 'a: "2"')"
    is '{"a":"2"}' value configmap applied .data
    says 'configured \(server dry run\)' kubectl apply --dry-run=server -f - <<<"$(configmap applied 'a: "3"')"
    is 2 value configmap applied .data.a
}
differences() {
    says '^$' kubectl diff -f - <<<"$(configmap applied 'a: "2"')"
    local said status=0
    said=$(kubectl diff -f - <<<"$(configmap applied 'a: "4"')") || status=$?
    [ "$status" = 1 ] && [[ $said == *$'\n-  a: "2"\n+  a: "4"'* ]] || { echo "diff ($status): $said"; return 1; }
    status=0
    said=$(kubectl diff --server-side --force-conflicts -f - <<<"$(configmap fresh 'a: "4"')") || status=$?
    [ "$status" = 1 ] && [[ $said == *'+  name: fresh'* ]] || { echo "diff --server-side ($status): $said"; return 1; }
    gone configmap fresh
}
server_side() {
    says 'configmap/shared serverside-applied' kubectl apply --server-side --field-manager=one -f - <<<"$(configmap shared 'a: "1", b: "1"')"
    refuses 'Apply failed with 1 conflict: conflict with "one": .data.a' kubectl apply --server-side --field-manager=two -f - <<<"$(configmap shared 'a: "2"')"
    says 'serverside-applied' kubectl apply --server-side --field-manager=two --force-conflicts -f - <<<"$(configmap shared 'a: "2"')"
    is '2 1' kubectl get configmap shared -o 'jsonpath={.data.a} {.data.b}'
    says 'serverside-applied' kubectl apply --server-side --field-manager=one -f - <<<"$(configmap shared 'b: "1"')"
    is '{"a":"2","b":"1"}' value configmap shared .data
    # From the client's way to the server's: what was applied before and is not now goes.
    kubectl apply -f - <<<"$(configmap moved 'a: "1", b: "1"')"
    says 'serverside-applied' kubectl apply --server-side --force-conflicts -f - <<<"$(configmap moved 'a: "1"')"
    if [ "$minor" -ge 26 ]; then is '{"a":"1"}' value configmap moved .data; fi
}
prune() {
    says 'pruned-one created.*pruned-two created' kubectl apply --prune -l set=pruned -f - <<<"$(configmap pruned-one 'a: "1"' pruned; configmap pruned-two 'a: "1"' pruned)"
    says 'configmap/pruned-one unchanged.*configmap/pruned-two pruned' kubectl apply --prune -l set=pruned -f - <<<"$(configmap pruned-one 'a: "1"' pruned)"
    gone configmap pruned-two
}
apply_set() {
    export KUBECTL_APPLYSET=true
    kubectl apply --server-side --prune --applyset=release -f - <<<"$(configmap set-one 'a: "1"'; configmap set-two 'a: "1"')"
    says 'set-two pruned' kubectl apply --server-side --prune --applyset=release -f - <<<"$(configmap set-one 'a: "1"')"
    gone configmap set-two
    says 'applyset.kubernetes.io/part-of' kubectl get configmap set-one -o yaml
}
kustomize() {
    mkdir -p "$SCRATCH/base" "$SCRATCH/overlay"
    kubectl create deployment web --image=myapp:1.2.0 --replicas=0 --dry-run=client -o yaml >"$SCRATCH/base/deployment.yaml"
    printf 'resources: [deployment.yaml]\nconfigMapGenerator: [{name: settings, literals: [a=1]}]\n' >"$SCRATCH/base/kustomization.yaml"
    cat >"$SCRATCH/overlay/kustomization.yaml" <<'END'
resources: [../base]
namePrefix: big-
patches:
- patch: '[{"op": "replace", "path": "/spec/revisionHistoryLimit", "value": 3}, {"op": "add", "path": "/metadata/labels/size", "value": "big"}]'
  target: {kind: Deployment}
END
    sed -i 's/^spec:/spec:\n  revisionHistoryLimit: 5/' "$SCRATCH/base/deployment.yaml"
    says 'configmap/big-settings-[a-z0-9]{10} created.*deployment.apps/big-web created' kubectl apply -k "$SCRATCH/overlay"
    is '3 big' kubectl get deployment big-web -o 'jsonpath={.spec.revisionHistoryLimit} {.metadata.labels.size}'
    says 'name: big-web' cluster kustomize "$SCRATCH/overlay"
    kubectl delete -k "$SCRATCH/overlay"
}

# editor SED-SCRIPT: what kubectl edit starts.
editor() {
    printf "#!/bin/sh\nsed -i '%s' \"\$1\"\n" "$1" >"$SCRATCH/editor"
    chmod 755 "$SCRATCH/editor"
    export EDITOR="$SCRATCH/editor" KUBE_EDITOR="$SCRATCH/editor"
}
edit() {
    kubectl create configmap edited --from-literal=a=1
    editor 's/a: .1./a: "2"/'
    says 'configmap/edited edited' kubectl edit configmap edited
    is 2 value configmap edited .data.a
    editor 's/nothing/else/'
    says 'Edit cancelled, no changes made' kubectl edit configmap edited
    # Refused: the editor opens again with the reason, and closes without another change.
    kubectl create deployment fixed --image=myapp:1.2.0 --replicas=0
    editor 's/progressDeadlineSeconds: 600/progressDeadlineSeconds: -1/'
    refuses 'deployments.apps "fixed" is invalid' kubectl edit deployment fixed
    is 600 value deployment fixed .spec.progressDeadlineSeconds
    kubectl apply -f - <<<"$(configmap edited 'a: "3"')" 2>/dev/null
    editor 's/a: .*3.*/a: "4"/'
    says 'edited' kubectl apply edit-last-applied configmap edited
    says 'a: "4"' kubectl apply view-last-applied configmap edited
}
replace() {
    kubectl create configmap replaced --from-literal=a=1
    says 'configmap/replaced replaced' kubectl replace -f - <<<"$(configmap replaced 'b: "1"')"
    is '{"b":"1"}' value configmap replaced .data
    refuses 'NotFound' kubectl replace -f - <<<"$(configmap missing 'b: "1"')"
    kubectl get configmap replaced -o yaml >"$SCRATCH/old.yaml"
    kubectl label configmap replaced now=newer
    refuses 'the object has been modified; please apply your changes to the latest version and try again' kubectl replace -f "$SCRATCH/old.yaml"
    local before
    before=$(value configmap replaced .metadata.uid)
    says 'deleted.*replaced' kubectl replace --force -f - <<<"$(configmap replaced 'c: "1"')"
    [ "$(value configmap replaced .metadata.uid)" != "$before" ]
}
raw() {
    local path="/api/v1/namespaces/$namespace/configmaps"
    echo '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"raw"},"data":{"a":"1"}}' >"$SCRATCH/raw.json"
    says '"uid":' kubectl create --raw "$path" -f "$SCRATCH/raw.json"
    sed -i 's/"1"/"2"/' "$SCRATCH/raw.json"
    says '"a":"2"' kubectl replace --raw "$path/raw" -f "$SCRATCH/raw.json"
    says '"status":"Success"' kubectl delete --raw "$path/raw"
    gone configmap raw
}
patches() {
    kubectl create deployment patched --image=myapp:1.2.0 --replicas=0
    says 'patched' kubectl patch deployment patched -p '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side:1"}]}}}}'
    is 'side myapp' value deployment patched '.spec.template.spec.containers[*].name'
    says 'patched' kubectl patch deployment patched -p '{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}'
    says 'patched' kubectl patch deployment patched --type=merge -p '{"spec":{"paused":true}}'
    says 'patched' kubectl patch deployment patched --type=json -p '[{"op":"test","path":"/spec/paused","value":true},{"op":"remove","path":"/spec/paused"}]'
    is 'myapp ' kubectl get deployment patched -o 'jsonpath={.spec.template.spec.containers[*].name} {.spec.paused}'
    says 'patched \(no change\)' kubectl patch deployment patched --type=merge -p '{"spec":{"replicas":0}}'
    refuses 'the server rejected our request due to an error in our request|The request is invalid' kubectl patch deployment patched --type=json -p '[{"op":"test","path":"/spec/paused","value":true}]'
    refuses 'spec.selector: Invalid value: .*: field is immutable' kubectl patch deployment patched --type=merge -p '{"spec":{"selector":{"matchLabels":{"x":"y"}}}}'
    kubectl get deployment patched -o yaml >"$SCRATCH/patched.yaml"
    says 'image: other:1' kubectl patch --local -o yaml --type=json -p '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"other:1"}]' -f "$SCRATCH/patched.yaml"
}
patch_status() {
    kubectl create deployment conditions --image=myapp:1.2.0 --replicas=0
    says 'patched' kubectl patch service kubernetes --namespace=default --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"example.com/Checked","status":"True","reason":"ByHand","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}'
    is ByHand cluster --namespace=default get service kubernetes --subresource=status -o 'jsonpath={.status.conditions[0].reason}'
    cluster --namespace=default patch service kubernetes --subresource=status --type=merge -p '{"status":{"conditions":null}}'
    says 'NAME +DESIRED +AVAILABLE +AGE.conditions +0 +0' kubectl get deployment conditions --subresource=scale
    says 'patched' kubectl patch deployment conditions --subresource=scale --type=merge -p '{"spec":{"replicas":1}}'
    is 1 value deployment conditions .spec.replicas
    kubectl delete deployment conditions
}
labels() {
    kubectl create configmap marked
    says 'labeled' kubectl label configmap marked tier=front
    refuses "'tier' already has a value \(front\), and --overwrite is false" kubectl label configmap marked tier=back
    kubectl label configmap marked tier=back --overwrite
    says 'tier=back' kubectl label configmap marked --list
    refuses 'the object has been modified' kubectl label configmap marked x=y --resource-version=1
    is configmap/marked kubectl get configmap -l 'tier in (back,middle),!none' -o name
    says '(labeled|unlabeled)' kubectl label configmap marked tier-
    is '' kubectl get configmap -l tier -o name
    refuses 'a valid label must be' kubectl label configmap marked 'tier=not valid'
    says 'annotate' kubectl annotate configmap marked note='some words'
    refuses '--overwrite is false' kubectl annotate configmap marked note=x
    is 'some words' value configmap marked .metadata.annotations.note
    kubectl annotate configmap marked note-
    is '' value configmap marked .metadata.annotations.note
    says 'configmap/marked (labeled|not labeled)' kubectl label configmap --all everybody=1
}
wait_for() {
    kubectl create configmap waited
    (sleep 1; kubectl delete configmap waited) &
    says 'configmap/waited condition met' kubectl wait --for=delete configmap/waited --timeout=20s
    kubectl create deployment waited --image=myapp:1.2.0 --replicas=0
    says 'condition met' kubectl wait --for=condition=Available deployment/waited --timeout=20s
    kubectl create deployment never --image=myapp:1.2.0 --replicas=0
    refuses 'timed out waiting for the condition on deployments/never' kubectl wait --for=condition=Nothing deployment/never --timeout=1s
    refuses 'no matching resources found' kubectl wait --for=condition=Available deployment -l none=such --timeout=1s
}
wait_for_value() {
    kubectl create configmap valued --from-literal=a=1
    (sleep 1; kubectl patch configmap valued --type=merge -p '{"data":{"a":"2"}}') >/dev/null &
    says 'condition met' kubectl wait --for=jsonpath='{.data.a}'=2 configmap/valued --timeout=20s
}
wait_for_creation() {
    (sleep 1; kubectl create configmap appearing) >/dev/null &
    says 'condition met' kubectl wait --for=create configmap/appearing --timeout=20s
}
# cascading HOW: a ReplicaSet that is owned by a Deployment.
cascading() {
    kubectl create deployment "cascade-$1" --image=myapp:1.2.0 --replicas=0 >/dev/null
    eventually 20 says "cascade-$1" kubectl get replicasets -l "app=cascade-$1" -o name
    says 'deleted' kubectl delete deployment "cascade-$1" --cascade="$1"
    gone deployment "cascade-$1"
}
delete() {
    cascading foreground
    is '' kubectl get replicasets -l app=cascade-foreground -o name
    cascading background
    eventually 20 is '' kubectl get replicasets -l app=cascade-background -o name
    cascading orphan
    says replicaset kubectl get replicasets -l app=cascade-orphan -o name
    is '' kubectl get replicasets -l app=cascade-orphan -o 'jsonpath={.items[0].metadata.ownerReferences}'
    kubectl delete replicasets -l app=cascade-orphan --now
    says 'deleted' kubectl delete configmap marked
    refuses 'configmaps "marked" not found' kubectl delete configmap marked
    is '' kubectl delete configmap marked --ignore-not-found
    kubectl create configmap held
    kubectl patch configmap held --type=merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'
    says 'deleted' kubectl delete configmap held --wait=false
    says '^20' value configmap held .metadata.deletionTimestamp
    refuses 'timed out' kubectl delete configmap held --timeout=1s
    kubectl patch configmap held --type=json -p '[{"op":"remove","path":"/metadata/finalizers"}]'
    gone configmap held
    says 'deleted \(server dry run\)|deleted.*\(server dry run\)' kubectl delete configmap edited --dry-run=server
    kubectl get configmap edited
    is configmap/edited kubectl delete configmap edited -o name
    kubectl create configmap many-1; kubectl create configmap many-2
    kubectl label configmap many-1 many-2 batch=1
    says 'many-1.*many-2' kubectl delete configmap -l batch=1
    says 'deleted' kubectl delete deployments --all
    is '' kubectl get deployments -o name
}

step "apply on the client" apply
step "diff" differences
step "apply on the server" server_side
step "apply --prune" prune
since 28 step "apply --applyset" apply_set
step "apply -k, kustomize" kustomize
step "edit" edit
step "replace, replace --force" replace
step "create, replace and delete --raw" raw
step "patch in all types" patches
since 28 step "patch and get --subresource" patch_status
step "label, annotate" labels
step "wait for conditions and for a removal" wait_for
since 23 step "wait for a value" wait_for_value
since 31 step "wait for a creation" wait_for_creation
step "delete, in all cascades" delete
