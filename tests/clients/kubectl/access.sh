# shellcheck shell=bash disable=SC2154,SC2016
# Who may what: auth, impersonation, certificates.

can_i() {
    says '(^|.)yes$' kubectl auth can-i create deployments.apps
    local said status=0
    said=$(kubectl auth can-i get secrets --as=nobody 2>&1) || status=$?
    [ "$status" = 1 ] && [[ $said == no* ]] || { echo "$said ($status)"; return 1; }
    says '\*\.\* +\[\] +\[\] +\[\*\]' kubectl auth can-i --list
    says 'selfsubjectaccessreviews.authorization.k8s.io +\[\] +\[\] +\[create\]' kubectl auth can-i --list --as=nobody
    says '\[/healthz\]|/healthz' kubectl auth can-i --list --as=nobody
    says 'yes' kubectl auth can-i get /healthz --as=nobody
    says 'yes' kubectl auth can-i update deployments --subresource=scale
    kubectl create role watcher --verb=list,watch --resource=pods
    kubectl create rolebinding watchers --role=watcher --group=watchers
    says 'pods +\[\] +\[\] +\[list watch\]' kubectl auth can-i --list --as=ann --as-group=watchers
    says 'No resources found' kubectl get pods -l none=such --as=ann --as-group=watchers
    refuses "pods \"x\" is forbidden: User \"ann\" cannot delete resource \"pods\" in API group \"\" in the namespace \"$namespace\"" kubectl delete pod x --as=ann --as-group=watchers
    says 'yes' kubectl auth can-i list pods --as=ann --as-group=watchers
}
reconcile() {
    local rules='apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reconciled, namespace: NAMESPACE}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]'
    rules=${rules/NAMESPACE/$namespace}
    says 'reconciled' kubectl auth reconcile -f - <<<"$rules"
    says 'reconciled' kubectl auth reconcile -f - <<<"${rules/get/list}"
    is 'get list' value role reconciled '.rules[*].verbs[0]'
}
whoami() {
    says 'Username +' kubectl auth whoami
    says 'Groups +\[.*system:masters.*\]|system:masters' kubectl auth whoami -o yaml
    says 'Username +ann.Groups +\[team system:authenticated\]' kubectl auth whoami --as=ann --as-group=team
}
# signed NAME: asks for a certificate for a client.
signing_request() {
    openssl req -new -newkey rsa:2048 -nodes -subj "/CN=$1/O=watchers" -keyout "$SCRATCH/$1.key" -out "$SCRATCH/$1.csr" 2>/dev/null
    kubectl create -f - <<END
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: $mine-$1}
spec:
  request: $(base64 -w 0 <"$SCRATCH/$1.csr")
  signerName: kubernetes.io/kube-apiserver-client
  usages: [client auth]
END
}
certificates() {
    signing_request ann
    says "$mine-ann .*kubernetes.io/kube-apiserver-client .* Pending" cluster get csr "$mine-ann"
    says 'approved' cluster certificate approve "$mine-ann"
    says 'Approved,Issued' eventually_issued
    cluster get csr "$mine-ann" -o 'jsonpath={.status.certificate}' | base64 -d >"$SCRATCH/ann.crt"
    says 'CN ?= ?ann' openssl x509 -in "$SCRATCH/ann.crt" -noout -subject
    # The certificate opens the door, and no further than its groups may go.
    cluster config view --minify --flatten --raw >"$SCRATCH/ann-config"
    cluster --kubeconfig "$SCRATCH/ann-config" config set-credentials ann --client-certificate="$SCRATCH/ann.crt" --client-key="$SCRATCH/ann.key" --embed-certs >/dev/null
    cluster --kubeconfig "$SCRATCH/ann-config" config set-context --current --user=ann >/dev/null
    says 'No resources found' kubectl --kubeconfig "$SCRATCH/ann-config" get pods -l none=such
    refuses 'User "ann" cannot list resource "secrets"' kubectl --kubeconfig "$SCRATCH/ann-config" get secrets
    signing_request bob
    says 'denied' cluster certificate deny "$mine-bob"
    says 'Denied' cluster get csr "$mine-bob"
    says 'Status: +Denied' cluster describe csr "$mine-bob"
    cluster delete csr "$mine-ann" "$mine-bob"
}
eventually_issued() {
    eventually 20 says 'Issued' cluster get csr "$mine-ann" && cluster get csr "$mine-ann"
}

step "auth can-i, --as" can_i
step "auth reconcile" reconcile
since 28 step "auth whoami" whoami
step "certificate approve, deny" certificates
