# shellcheck shell=bash disable=SC2154,SC2016
# Workloads: rollout, scale, autoscale, set.

image_of() { is "$1" value deployment web '.spec.template.spec.containers[0].image'; }
deployment_yaml() {
    cat <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "myapp:1.2.0", ports: [{containerPort: 3000}]}]
END
}
rollouts() {
    deployment_yaml | kubectl apply -f -
    says 'successfully rolled out' rolled_out deployment/web
    kubectl set image deployment/web web=myapp:1.3.0
    kubectl annotate deployment web kubernetes.io/change-cause='to 1.3'
    says 'successfully rolled out' rolled_out deployment/web
    says 'REVISION +CHANGE-CAUSE.*1 +<none>.*2 +to 1.3' kubectl rollout history deployment/web
    says 'Image:[[:space:]]+myapp:1.2.0' kubectl rollout history deployment/web --revision=1
    says 'rolled back' kubectl rollout undo deployment/web
    says 'successfully rolled out' rolled_out deployment/web
    image_of myapp:1.2.0
    says 'rolled back' kubectl rollout undo deployment/web --to-revision=2
    image_of myapp:1.3.0
    says 'restarted' kubectl rollout restart deployment/web
    says 'successfully rolled out' rolled_out deployment/web
    says '^20' value deployment web '.spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt'
    says 'paused' kubectl rollout pause deployment/web
    refuses 'is already paused' kubectl rollout pause deployment/web
    kubectl set image deployment/web web=myapp:1.2.0
    says 'resumed' kubectl rollout resume deployment/web
    says 'successfully rolled out' rolled_out deployment/web
    refuses 'unable to find specified revision 99 in history' kubectl rollout undo deployment/web --to-revision=99
}
other_rollouts() {
    local kind
    kubectl apply -f - <<END
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stateful}
spec:
  serviceName: stateful
  selector: {matchLabels: {app: stateful}}
  template: &template
    metadata: {labels: {app: stateful}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "myapp:1.2.0"}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "myapp:1.2.0"}]
END
    for kind in statefulset/stateful daemonset/everywhere; do
        says 'roll' rolled_out "$kind"
        kubectl set image "$kind" web=myapp:1.3.0
        says 'roll' rolled_out "$kind"
        says '2 +<none>' kubectl rollout history "$kind"
        says 'rolled back' kubectl rollout undo "$kind"
        says 'roll' rolled_out "$kind"
        kubectl rollout restart "$kind"
        says 'roll' rolled_out "$kind"
    done
    is myapp:1.2.0 value pod stateful-0 '.spec.containers[0].image'
    says 'Pods Status: +1 Running' kubectl describe statefulset stateful
    says 'Pods Status: +1 Running|Number of Nodes Scheduled with Up-to-date Pods: 1' kubectl describe daemonset everywhere
    kubectl delete statefulset/stateful daemonset/everywhere
}
scaling() {
    kubectl create deployment scaled --image=myapp:1.2.0 --replicas=0
    refuses 'Expected replicas to be 3, was 0' kubectl scale deployment scaled --replicas=2 --current-replicas=3
    kubectl rollout pause deployment/scaled
    says 'scaled' kubectl scale deployment scaled --replicas=2 --current-replicas=0
    is 2 value deployment scaled .spec.replicas
    says 'scaled' kubectl scale deployment -l app=scaled --replicas=0
    says 'autoscaled' kubectl autoscale deployment scaled --min=1 --max=3 --cpu-percent=70
    is 'scaled 1 3 70' kubectl get hpa scaled -o 'jsonpath={.spec.scaleTargetRef.name} {.spec.minReplicas} {.spec.maxReplicas} {.spec.metrics[0].resource.target.averageUtilization}'
    says 'scaled +Deployment/scaled .*1 +3' kubectl get hpa scaled
    says 'Reference: +Deployment/scaled' kubectl describe hpa scaled
    kubectl delete hpa scaled
    refuses 'NotFound|no objects passed to scale' kubectl scale deployment nothing --replicas=1
}
setting() {
    local one='.spec.template.spec.containers[0]'
    kubectl create deployment set --image=myapp:1.2.0 --replicas=0
    kubectl create configmap values --from-literal=FROM=map
    says 'env updated' kubectl set env deployment/set A=1 B=2
    says 'A=1' kubectl set env deployment/set --list
    kubectl set env deployment/set A- --from=configmap/values
    is 'B FROM' value deployment set "$one.env[*].name"
    says 'resource requirements updated' kubectl set resources deployment set --limits=cpu=200m,memory=64Mi --requests=cpu=100m
    is '200m 100m' kubectl get deployment set -o "jsonpath={$one.resources.limits.cpu} {$one.resources.requests.cpu}"
    kubectl create serviceaccount runner
    says 'serviceaccount updated' kubectl set serviceaccount deployment set runner
    is runner value deployment set .spec.template.spec.serviceAccountName
    kubectl create service clusterip chosen --tcp=80
    says 'selector updated' kubectl set selector service chosen app=set
    is '{"app":"set"}' value service chosen .spec.selector
    kubectl create role nothing --verb=get --resource=pods
    kubectl create rolebinding subjects --role=nothing --user=a
    says 'subjects updated' kubectl set subject rolebinding subjects --user=b --serviceaccount="$namespace:runner"
    is 'a b runner' value rolebinding subjects '.subjects[*].name'
    says 'image updated' kubectl set image deployment/set '*=myapp:1.3.0'
    is myapp:1.3.0 value deployment set "$one.image"
    says 'image: other' kubectl set image deployment/set myapp=other --dry-run=server -o yaml
}
run_jobs() {
    kubectl create job finished --image=myapp:1.2.0 -- sh -c 'echo worked'
    says 'condition met' kubectl wait --for=condition=Complete job/finished --timeout=60s
    is worked kubectl logs job/finished
    says 'finished .*1/1' kubectl get job finished
    says 'Pods Statuses: +0 (Active|Running).*1 Succeeded' kubectl describe job finished
    kubectl delete job finished
    eventually 20 is '' kubectl get pods -l job-name=finished -o name
}

step_of_pods "rollout status, history, undo, restart, pause, resume" rollouts
step_of_pods "rollout of StatefulSets and DaemonSets" other_rollouts
step "scale, autoscale" scaling
step "set env, image, resources, serviceaccount, selector, subject" setting
step_of_pods "jobs" run_jobs
