#!/usr/bin/env bash
# `make up`: from a fresh clone to a working system. The same steps serve an existing cluster (CONTEXT, IMAGE_REPOSITORY);
# only how a kubeconfig and the images come to be differs. A second run is quick and changes nothing.
source "$(dirname "$0")/lib.sh"
began=$(seconds)
context=${CONTEXT:-}
image_repository=${IMAGE_REPOSITORY:-}
samples=${ERS_SAMPLES:-$root/manifests/samples/kubernetes}
if [ -n "$context" ] && [ -z "$image_repository" ]; then
  die "CONTEXT=$context names a cluster of yours, so IMAGE_REPOSITORY must name a registry that its nodes can pull from, e.g. IMAGE_REPOSITORY=registry.example.com/ers"
fi

step() { say "$* ($(($(seconds) - began)) s)"; }

need_toolchains
step "building the tools of the local cluster and the programs"
build_cluster_tool
if [ -z "$context" ]; then
  need_packages "${cluster_packages[@]}" curl jq
  # Go and Cargo side by side: each leaves cores idle that the other can use.
  cluster build >"$cache/build-cluster.log" 2>&1 &
  go_build=$!
  trap 'kill $go_build 2>/dev/null || true' EXIT
fi
build_programs
if [ -z "$context" ]; then
  wait $go_build || { tail -20 "$cache/build-cluster.log" >&2; die "the local cluster's programs did not build; the whole log: $cache/build-cluster.log"; }
  trap - EXIT
fi
[ -x "$tools/kubectl" ] && [ -x "$tools/helm" ] || { step "building kubectl and helm"; cluster tools; }

if [ -z "$context" ]; then
  step "starting the local cluster $ERS_CLUSTER"
  # shellcheck disable=SC2086
  cluster up ${ERS_CLUSTER_FLAGS:-}
  kubeconfig=$(cluster kubeconfig)
  kubectl() { "$tools/kubectl" --kubeconfig "$kubeconfig" "$@"; }
  helm() { "$tools/helm" --kubeconfig "$kubeconfig" "$@"; }
  pull_policy=Never
else
  kubectl() { "$tools/kubectl" --context "$context" "$@"; }
  helm() { "$tools/helm" --kube-context "$context" "$@"; }
  kubectl get --raw /readyz >/dev/null || die "the cluster of context $context does not answer; try: kubectl --context $context get nodes"
  pull_policy=IfNotPresent
fi

step "images"
declare -A image
while read -r program reference archive; do
  image[$program]=$reference
  archives+=("$archive")
  note "$reference  $(du -h --apparent-size "$archive" | cut -f1)"
done < <(IMAGE_REPOSITORY=$image_repository build_images)
[ "${#image[@]}" = 3 ] || die "expected three images, got ${#image[@]}"
if [ -z "$context" ]; then
  cluster load-image "${archives[@]}"
else
  cluster push ${ERS_PUSH_FLAGS:-} "${archives[@]}" "$image_repository"
fi

step "installing the operator"
helm upgrade --install ers "$root/charts/ers" --namespace ers-system --create-namespace --wait --timeout 180s \
  --set image.operator="${image[ers-operator]}" --set image.server="${image[ers-server]}" --set image.agent="${image[ers-agent]}" \
  --set image.pullPolicy=$pull_policy ${ERS_HELM_FLAGS:-} >"$cache/helm.log" 2>&1 || {
  tail -5 "$cache/helm.log" >&2
  kubectl -n ers-system get pods >&2
  kubectl -n ers-system logs -l app.kubernetes.io/name=ers-operator --tail 20 >&2 || true
  die "the operator did not become ready"
}

step "applying the samples"
# The local cluster has no way out to pull the sample app's image, but runs the same program itself.
sample_app=registry.k8s.io/coredns/coredns:v1.12.4
local_app=${ERS_SAMPLE_APP:-}
[ -n "$context" ] || local_app=$(kubectl -n kube-system get deployment coredns -o jsonpath='{.spec.template.spec.containers[0].image}')
sed -e "s|$sample_app|${local_app:-$sample_app}|" "$samples"/*.yaml > "$cache/samples.yaml"
for _ in 1 2 3 4 5 6; do
  if kubectl apply -f "$cache/samples.yaml" >"$cache/apply.log" 2>&1; then applied=1; break; fi
  # Right after the first install the webhook's certificate may not have reached the API server yet.
  kubectl -n ers-system rollout status deployment/ers-operator --timeout 20s >/dev/null 2>&1 || true
done
[ -n "${applied:-}" ] || { cat "$cache/apply.log" >&2; die "the samples were not accepted"; }

step "waiting until every sample is Ready by proof"
wait_ready() { # kind/name
  local object=$1 deadline=$(($(seconds) + 600)) last='' now
  while :; do
    now=$(kubectl -n demo get "$object" -o json | jq -r '
      .metadata.generation as $g | (.status.conditions // []) | map(select(.type == "Ready"))[0] // {status: "Unknown", reason: "NotJudgedYet", message: "", observedGeneration: 0}
      | if .status == "True" and .observedGeneration == $g then "Ready" else "\(.status)/\(.reason): \(.message)" end')
    [ "$now" = Ready ] && { note "$object is Ready"; return 0; }
    [ "$now" != "$last" ] && note "$object: $now"
    last=$now
    [ "$(seconds)" -lt $deadline ] || { kubectl -n demo describe "$object" >&2; die "$object is not Ready after 10 minutes"; }
    kubectl -n demo wait "$object" --for=condition=Ready --timeout=5s >/dev/null 2>&1 || true
  done
}
for object in $(kubectl -n demo get reportpolicies,collectortargets -o name); do wait_ready "$object"; done

policy=$(kubectl -n demo get reportpolicies -o jsonpath='{.items[0].metadata.name}')
if [ -z "$context" ]; then
  address="https://$(kubectl -n demo get service "$policy-server" -o jsonpath='{.spec.clusterIP}'):8443/"
else
  address="https://localhost:8443/   (after: kubectl --context $context -n demo port-forward service/$policy-server 8443)"
fi
user=$(kubectl -n demo get secret "$policy-admin" -o jsonpath='{.data.username}' | base64 -d)
password=$(kubectl -n demo get secret "$policy-admin" -o jsonpath='{.data.password}' | base64 -d)
step "done"
cat <<TEXT

  The page   $address
             (its certificate is signed by the policy's own authority: ConfigMap $policy-ca in namespace demo)
  Log in     $user / $password

  Next
    export KUBECONFIG=${kubeconfig:-<yours>}; alias kubectl=$tools/kubectl
    kubectl -n demo get reporting                      # what is there, and is it Ready
    kubectl explain collectortarget.spec               # the manual of a kind
    kubectl -n demo describe collectortarget nodes     # why it is Ready, or why not
TEXT
