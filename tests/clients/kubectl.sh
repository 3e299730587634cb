#!/bin/bash
# kubectl does all that its users do: kubectl.sh KUBECTL [PART…], of making, changing, showing, custom, access, workloads,
# pods, nodes.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/clients/steps.sh
. "$here/steps.sh"

program=$(type -P "$1")
shift
parts=("$@")
if [ ${#parts[@]} = 0 ]; then parts=(making changing showing custom access workloads pods nodes); fi
version=$("$program" version --client 2>/dev/null | grep -oE 'v1\.[0-9]+\.[0-9]+' | head -n 1)
minor=${version#v1.}
minor=${minor%%.*}
namespace=kubectl-$minor
# Objects of the whole cluster bear this in their names, so that two versions may work beside each other.
# shellcheck disable=SC2034
mine=kubectl-$minor

# What is discovered is kept here, and belongs to one server. A command that never ends fails its step.
cluster() { timeout --foreground 150 "$program" --cache-dir "$SCRATCH/cache" "$@"; }
kubectl() { cluster --namespace "$namespace" "$@"; }
# background OUTPUT ARGUMENT…: runs on until its process ($!) or the step ends.
background() {
    local output=$1
    shift
    "$program" --cache-dir "$SCRATCH/cache" --namespace "$namespace" "$@" >"$output" 2>&1 &
}
# value KIND NAME JSONPATH: one value of an object.
value() { kubectl get "$1" "$2" -o "jsonpath={$3}"; }
# since MINOR COMMAND…: for what older versions of kubectl do not know yet.
since() {
    [ "$minor" -ge "$1" ] || return 0
    shift
    "$@"
}
gone() { refuses 'NotFound' kubectl get "$@"; }
running() { kubectl wait --for=condition=Ready --timeout=60s "$@"; }
rolled_out() { kubectl rollout status --timeout=90s "$@"; }

printf 'kubectl %s\n' "$version"
step "create namespace" cluster create namespace "$namespace" || finish_steps
for part in "${parts[@]}"; do
    # shellcheck source=/dev/null
    . "$here/kubectl/$part.sh"
done
step "delete namespace" cluster delete namespace "$namespace" --wait --timeout=90s
finish_steps
