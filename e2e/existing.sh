#!/usr/bin/env bash
# `make up CONTEXT=... IMAGE_REPOSITORY=...` tried for real: a second local cluster plays the existing one, with a registry of its own.
source "$(dirname "$0")/lib.sh"
export ERS_CLUSTER=${ERS_EXISTING_CLUSTER:-ers-existing}
build_cluster_tool
finish() { cluster down >/dev/null 2>&1 || note "cluster $ERS_CLUSTER did not go down cleanly: ERS_CLUSTER=$ERS_CLUSTER $tools/ers-cluster down"; }
trap finish EXIT
registry=$(cluster up --registry | sed -n 's/^image registry (plain HTTP): //p')
[ -n "$registry" ] || die "the cluster did not say where its registry is"
KUBECONFIG=$(cluster kubeconfig)
export KUBECONFIG
context=$("$tools/kubectl" config current-context)
# This cluster has no way out either: the sample application is the resolver that it runs anyway.
ERS_SAMPLE_APP=$("$tools/kubectl" -n kube-system get deployment coredns -o jsonpath='{.spec.template.spec.containers[0].image}')
export ERS_SAMPLE_APP
CONTEXT=$context IMAGE_REPOSITORY=$registry/ers ERS_PUSH_FLAGS=--plain-http "$root/e2e/up.sh"
image=$("$tools/kubectl" -n demo get statefulset -o jsonpath='{.items[0].spec.template.spec.containers[0].image}')
[[ $image == $registry/ers/* ]] || die "the server runs $image, which is not from $registry"
CONTEXT=$context "$root/e2e/down.sh"
# What the local cluster brings itself is called ers-cluster:<name>.
left=$("$tools/kubectl" get namespaces,clusterroles,clusterrolebindings,validatingwebhookconfigurations,customresourcedefinitions -o name | grep -E '(^|[/-])ers[-.]|/ers$|reporting\.ers\.dev|/demo$' | grep -v '/ers-cluster:' || true)
[ -z "$left" ] || die "make down left: $left"
echo "installed into and removed from context $context, images pulled from $registry"
