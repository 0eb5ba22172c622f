#!/usr/bin/env bash
# `make down`: removes every trace of `make up`: the local cluster with all that ran in it, or, in a cluster of yours, what was installed.
source "$(dirname "$0")/lib.sh"
context=${CONTEXT:-}
if [ -n "$context" ]; then
  [ -x "$tools/kubectl" ] && [ -x "$tools/helm" ] || die "kubectl and helm are not built yet: nothing was installed from here"
  say "removing the samples and the operator from $context"
  "$tools/kubectl" --context "$context" delete namespace demo --ignore-not-found
  "$tools/helm" --kube-context "$context" uninstall ers --namespace ers-system --ignore-not-found --wait
  "$tools/kubectl" --context "$context" delete namespace ers-system --ignore-not-found
  "$tools/kubectl" --context "$context" delete crd reportpolicies.reporting.ers.dev collectortargets.reporting.ers.dev --ignore-not-found
else
  build_cluster_tool
  say "stopping the local cluster $ERS_CLUSTER"
  cluster down
fi
say "build caches stay in $cache; remove that folder to forget them too"
