# shellcheck shell=bash disable=SC2154,SC2016
# Custom kinds are as good as built-in ones.

custom_kind() {
    cluster apply -f - <<END
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.$mine.example.com}
spec:
  group: $mine.example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, shortNames: [wg$minor], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}
    selectableFields: [{jsonPath: .spec.colour}]
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Colour, type: string, jsonPath: .spec.colour, priority: 1}
    schema:
      openAPIV3Schema:
        description: A thing of our own
        type: object
        properties:
          spec:
            description: What is wanted
            type: object
            required: [size]
            properties:
              size: {type: integer, description: How large it is, minimum: 1}
              colour: {type: string, default: green}
            x-kubernetes-validations:
            - {rule: "self.colour != 'pink' || self.size < 5", message: large ones are not pink}
          status:
            type: object
            x-kubernetes-preserve-unknown-fields: true
END
    says 'condition met' cluster wait --for=condition=Established --timeout=30s "crd/widgets.$mine.example.com"
    says "widgets +wg$minor +$mine.example.com/v1 +true +Widget" cluster api-resources --api-group="$mine.example.com"
}
widget() { printf 'apiVersion: %s.example.com/v1\nkind: Widget\nmetadata: {name: %s}\nspec: {%s}\n' "$mine" "$1" "$2"; }
custom_objects() {
    says 'created' kubectl apply -f - <<<"$(widget one 'size: 2')"
    says '^NAME +SIZE.one +2' kubectl get "wg$minor"
    says '^NAME +SIZE +COLOUR.one +2 +green' kubectl get widgets -o wide
    says 'unchanged' kubectl apply -f - <<<"$(widget one 'size: 2')"
    says 'configured' kubectl apply -f - <<<"$(widget one 'size: 3')"
    says 'serverside-applied' kubectl apply --server-side --force-conflicts -f - <<<"$(widget two 'size: 1, colour: red')"
    refuses 'spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1' kubectl apply -f - <<<"$(widget three 'size: 0')"
    refuses 'spec.size: Required value|missing required field "size"' kubectl create -f - <<<"$(widget three '')"
    refuses 'spec: Invalid value: ("object": )?large ones are not pink' kubectl create -f - <<<"$(widget three 'size: 9, colour: pink')"
    refuses 'unknown field "(spec.)?shape"' kubectl create -f - <<<"$(widget three 'size: 1, shape: round')"
    says 'scaled' kubectl scale widget one --replicas=4
    is 4 value widget one .spec.size
    says 'patched' kubectl patch widget one --type=merge -p '{"spec":{"size":5}}'
    refuses 'application/strategic-merge-patch\+json is not supported|strategic|accepted media types include: application/json-patch\+json' kubectl patch widget one --type=strategic -p '{"spec":{"size":5}}'
    is "widget.$mine.example.com/two" kubectl get widgets --field-selector=spec.colour=red -o name
    says 'Size: +5' kubectl describe widget one
    says "widget.$mine.example.com/one" kubectl get all
    says 'labeled' kubectl label widgets --all x=y
    kubectl wait --for=delete widget/none --timeout=1s
    says 'deleted' kubectl delete widget one
}
custom_explained() {
    eventually 10 says 'A thing of our own' kubectl explain widgets
    says 'size.*<integer>.*How large it is|size.*<integer>.*-required-' kubectl explain widget.spec
    says 'colour' kubectl explain widget --recursive
}
custom_removed() {
    cluster delete crd "widgets.$mine.example.com"
    eventually 10 refuses "the server doesn't have a resource type|the server could not find the requested resource" kubectl get widgets
}

step "create a custom kind" custom_kind
step "work with its objects" custom_objects
step "explain it" custom_explained
step "remove it with all its objects" custom_removed
