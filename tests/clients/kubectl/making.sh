# shellcheck shell=bash disable=SC2154,SC2016
# kubectl create in all its kinds, run and expose; and describe of what they made.

namespace_taken() { refuses "AlreadyExists\): namespaces \"$namespace\" already exists" cluster create namespace "$namespace"; }
configmaps() {
    mkdir -p "$SCRATCH/files"
    printf 'one\ntwo\n' >"$SCRATCH/files/lines"
    printf '\377\000' >"$SCRATCH/files/binary"
    printf 'A=1\nB=2\n' >"$SCRATCH/env"
    kubectl create configmap literal --from-literal=a=1 --from-literal=b=two
    is '{"a":"1","b":"two"}' value configmap literal .data
    kubectl create configmap files --from-file="$SCRATCH/files"
    is $'one\ntwo' value configmap files .data.lines
    is '/wA=' value configmap files .binaryData.binary
    kubectl create configmap env --from-env-file="$SCRATCH/env"
    is '{"A":"1","B":"2"}' value configmap env .data
    says 'configmap/hashed-[a-z0-9]{10} created' kubectl create configmap hashed --from-literal=a=1 --append-hash
    says 'literal +2 +' kubectl get configmaps
    says 'a:.*----' kubectl describe configmap literal
    refuses 'Invalid value: "Upper": a lowercase RFC 1123 subdomain' kubectl create configmap Upper
}
secrets() {
    kubectl create secret generic plain --from-literal=user=me --from-file=file="$SCRATCH/env"
    is 'Opaque bWU=' kubectl get secret plain -o 'jsonpath={.type} {.data.user}'
    says 'user: +2 bytes' kubectl describe secret plain
    kubectl create secret generic typed --type=example.com/kind --from-literal=a=1
    is example.com/kind value secret typed .type
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=shop -keyout "$SCRATCH/key" -out "$SCRATCH/certificate" 2>/dev/null
    kubectl create secret tls pair --cert="$SCRATCH/certificate" --key="$SCRATCH/key"
    says '^pair +kubernetes.io/tls +2 ' kubectl get secret pair --no-headers
    kubectl create secret docker-registry pull --docker-server=registry.example.com --docker-username=me --docker-password=x
    is kubernetes.io/dockerconfigjson value secret pull .type
    refuses 'data\[tls.crt\]: Required value' kubectl create secret generic wrong --type=kubernetes.io/tls --from-literal=a=1
}
workloads() {
    kubectl create deployment made --image=myapp:1.2.0 --replicas=0 --port=3000
    is 'made 0 3000' kubectl get deployment made -o 'jsonpath={.spec.selector.matchLabels.app} {.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort}'
    says 'Replicas: +0 desired.*StrategyType: +RollingUpdate' kubectl describe deployment made
    kubectl create job once --image=myapp:1.2.0 -- sh -c 'echo once'
    is 'Never sh' kubectl get job once -o 'jsonpath={.spec.template.spec.restartPolicy} {.spec.template.spec.containers[0].command[0]}'
    says 'Parallelism: +1' kubectl describe job once
    kubectl create cronjob nightly --image=myapp:1.2.0 --schedule='0 3 * * *' -- sh -c 'echo nightly'
    says 'nightly +0 3 \* \* \*' kubectl get cronjob nightly
    says 'Schedule: +0 3 \* \* \*' kubectl describe cronjob nightly
    kubectl create job now --from=cronjob/nightly
    is 'manual CronJob nightly' kubectl get job now -o 'jsonpath={.metadata.annotations.cronjob\.kubernetes\.io/instantiate} {.metadata.ownerReferences[0].kind} {.metadata.ownerReferences[0].name}'
    refuses 'spec.schedule: Invalid value: "never"' kubectl create cronjob wrong --image=a --schedule=never
}
rbac() {
    kubectl create role reader --verb=get,list --resource=pods,deployments.apps --resource-name=one
    is 'get list|pods|one' kubectl get role reader -o 'jsonpath={.rules[0].verbs[0]} {.rules[0].verbs[1]}|{.rules[0].resources[0]}|{.rules[0].resourceNames[0]}'
    says 'deployments.apps.*\[one\].*\[get list\]' kubectl describe role reader
    kubectl create rolebinding readers --role=reader --user=ann --group=team --serviceaccount="$namespace:default"
    is 'User Group ServiceAccount' kubectl get rolebinding readers -o 'jsonpath={.subjects[*].kind}'
    says 'Kind: +Role.*Name: +reader.*ServiceAccount' kubectl describe rolebinding readers
    says 'readers +Role/reader .* ann +team +' kubectl get rolebinding readers -o wide
    cluster create clusterrole "$mine-part" --verb=get --resource=nodes
    cluster label clusterrole "$mine-part" "part-of=$mine"
    cluster create clusterrole "$mine-web" --verb=get --non-resource-url=/logs/*
    is '/logs/*' cluster get clusterrole "$mine-web" -o 'jsonpath={.rules[0].nonResourceURLs[0]}'
    cluster create clusterrole "$mine-all" --aggregation-rule="part-of=$mine"
    eventually 20 is nodes cluster get clusterrole "$mine-all" -o 'jsonpath={.rules[0].resources[0]}'
    cluster create clusterrolebinding "$mine" --clusterrole="$mine-all" --group="$mine"
    says "ClusterRole/$mine-all" cluster get clusterrolebinding "$mine"
    says '(^|[[:space:]])yes$' cluster auth can-i get nodes --as=somebody --as-group="$mine"
    cluster delete clusterrolebinding "$mine"
    cluster delete clusterrole "$mine-all" "$mine-part" "$mine-web"
}
accounts() {
    kubectl create serviceaccount worker
    says 'Name: +worker' kubectl describe serviceaccount worker
}
tokens() {
    local token
    token=$(kubectl create token worker --audience=here --duration=20m)
    [[ $token == *.*.* ]]
    token=$(kubectl create token worker)
    says "system:serviceaccount:$namespace:worker\" cannot list resource \"pods\"" refuses_with_token "$token"
    refuses 'serviceaccounts "nobody" not found' kubectl create token nobody
}
refuses_with_token() {
    # As nobody else: the kubeconfig's certificate would win.
    cluster config view --minify --flatten --raw >"$SCRATCH/token-config"
    cluster --kubeconfig "$SCRATCH/token-config" config set-credentials only --token="$1" >/dev/null
    cluster --kubeconfig "$SCRATCH/token-config" config set-context --current --user=only >/dev/null
    kubectl --kubeconfig "$SCRATCH/token-config" get pods && return 1
    return 0
}
limits() {
    kubectl create quota small --hard=requests.cpu=2 --scopes=NotTerminating
    is 2 value quota small '.spec.hard.requests\.cpu'
    says 'Scopes: +NotTerminating' kubectl describe quota small
    kubectl create quota counted --hard=services=0
    eventually 20 says 'services +[0-9]+ +0' kubectl describe quota counted
    refuses 'exceeded quota: counted, requested: services=1, used: services=[0-9], limited: services=0' kubectl create service clusterip none --tcp=80
    kubectl delete quota counted small
    kubectl create poddisruptionbudget most --selector=app=made --min-available=50%
    says 'most +50% +N/A +0' kubectl get pdb most
    says 'Min available: +50%' kubectl describe pdb most
    cluster create priorityclass "$mine" --value=1000 --description=high --preemption-policy=Never
    is '1000 Never' cluster get priorityclass "$mine" -o 'jsonpath={.value} {.preemptionPolicy}'
    says 'Value: +1000' cluster describe priorityclass "$mine"
    cluster delete priorityclass "$mine"
}
services() {
    kubectl create service clusterip inside --tcp=80:3000
    is '80 3000' kubectl get service inside -o 'jsonpath={.spec.ports[0].port} {.spec.ports[0].targetPort}'
    kubectl create service clusterip headless --clusterip=None --tcp=80
    is None value service headless .spec.clusterIP
    kubectl create service nodeport outside --tcp=80:3000
    says '80:3[0-2][0-9]{3}/TCP' kubectl get service outside
    kubectl create service loadbalancer balanced --tcp=80
    says 'balanced +LoadBalancer .*<pending>' kubectl get service balanced
    kubectl create service externalname elsewhere --external-name=example.com
    says 'elsewhere +ExternalName +<none> +example.com +<none>' kubectl get service elsewhere
    says 'Type: +ClusterIP' kubectl describe service inside
    refuses 'spec.ports\[0\].nodePort: Invalid value: 80: provided port is not in the valid range' kubectl create service nodeport wrong --tcp=80 --node-port=80
}
ingresses() {
    kubectl create ingress simple --class=example --rule='shop.example.com/path*=inside:80,tls=pair' --default-backend=inside:80
    is 'example Prefix pair' kubectl get ingress simple -o 'jsonpath={.spec.ingressClassName} {.spec.rules[0].http.paths[0].pathType} {.spec.tls[0].secretName}'
    says 'simple +example +shop.example.com +80, 443' kubectl get ingress simple
    says '/path +inside:80' kubectl describe ingress simple
}
from_files() {
    is configmap/from-file kubectl create -o name -f - <<<$'---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: from-file}}'
    says 'configmap/generated-[a-z0-9]{5} created' kubectl create -f - <<<$'---\n{apiVersion: v1, kind: ConfigMap, metadata: {generateName: generated-}}'
    says 'created \(server dry run\)' kubectl create --dry-run=server -f - <<<$'---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: dry}}'
    gone configmap dry
    says 'configmap/both created.*secret/both created' kubectl create -f - <<'END'
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: both}}
---
{apiVersion: v1, kind: Secret, metadata: {name: both}}
END
    says 'configmap/listed created' kubectl create -f - <<<$'---\n{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: listed}}]}'
    refuses 'no matches for kind "Nothing" in version "v1"' kubectl create -f - <<<$'---\n{apiVersion: v1, kind: Nothing, metadata: {name: x}}'
    refuses 'unknown field "dta"' kubectl create -f - <<<$'---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: typo}, dta: {}}'
    says 'created' kubectl create --validate=false -f - <<<$'---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: typo}, dta: {}}'
}
warned() {
    says 'Warning: unknown field "dta".*configmap/warned created' kubectl create --validate=warn -f - <<<$'---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: warned}, dta: {}}'
}
run_dry() {
    says 'image: myapp:1.2.0' kubectl run dry --image=myapp:1.2.0 --env=A=b --labels=l=1 --port=3000 --dry-run=server -o yaml
    says 'nodeSelector' kubectl run dry --image=myapp:1.2.0 --dry-run=server -o yaml --overrides='{"apiVersion":"v1","spec":{"nodeSelector":{"a":"b"}}}'
    gone pod dry
    says 'service/seen created.*pod/seen created|pod/seen created.*service/seen created' kubectl run seen --image=myapp:1.2.0 --port=3000 --expose
    is seen value service seen .spec.selector.run
    kubectl delete pod seen --now
}
expose() {
    kubectl expose deployment made --name=exposed --port=80 --target-port=3000 --type=NodePort
    is 'made NodePort 80 3000' kubectl get service exposed -o 'jsonpath={.spec.selector.app} {.spec.type} {.spec.ports[0].port} {.spec.ports[0].targetPort}'
    kubectl expose service inside --name=again --port=81
    is inside value service again .spec.selector.app
}

step "create namespace: a name that is taken" namespace_taken
step "create configmap" configmaps
step "create secret" secrets
step "create deployment, job, cronjob, job --from" workloads
step "create role, rolebinding, clusterrole, clusterrolebinding" rbac
step "create serviceaccount" accounts
since 24 step "create token" tokens
step "create quota, poddisruptionbudget, priorityclass" limits
step "create service" services
step "create ingress" ingresses
step "create -f" from_files
since 27 step "create --validate=warn" warned
step "run" run_dry
step "expose" expose
