#!/usr/bin/env bash
# `make test`: everything that proves the product, in stages; a failed stage does not hide the next one. Ends with one table.
#   e2e/test.sh [--only stage,stage] [--keep]     --keep leaves the test cluster running
source "$(dirname "$0")/lib.sh"
export ERS_CLUSTER=${ERS_TEST_CLUSTER:-ers-test}
only= keep=
while [ $# -gt 0 ]; do
  case $1 in
    --only) only=$2; shift 2 ;;
    --keep) keep=1; shift ;;
    *) die "unknown argument $1; usage: e2e/test.sh [--only stage,stage] [--keep]" ;;
  esac
done
artifacts=$root/artifacts
rm -rf "$artifacts"; mkdir -p "$artifacts"
began=$(seconds)
rows=() passed=0 failed=0
declare -A result
background=

wanted() { [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]; }

# stage NAME "what it proves" [needs NAME...] -- command...
stage() {
  local name=$1 what=$2 needs=() ; shift 2
  while [ "$1" != -- ]; do needs+=("$1"); shift; done; shift
  wanted "$name" || return 0
  local log=$artifacts/$name.log start need took tests outcome
  for need in "${needs[@]}"; do
    if [ "${result[$need]:-ok}" != ok ]; then
      result[$name]=failed; failed=$((failed + 1))
      rows+=("$name|not run: $need failed|-|$what"); say "$name: not run, since $need failed"
      return 0
    fi
  done
  say "$name: $what"
  start=$(seconds)
  # Not as the condition of an `if`: there bash ignores errexit, and a stage would go on after its first failure.
  set +e
  ( set -euo pipefail; "$@" ) >"$log" 2>&1 </dev/null
  if [ $? = 0 ]; then outcome=ok; else outcome=failed; fi
  set -e
  took=$(($(seconds) - start))
  tests=$(awk '/^test result:/{p+=$4; f+=$6} /^# pass /{p+=$3} /^# fail /{f+=$3} /^(--- )?ok +ers/{g+=1} END{printf "%d passed", p+g; if (f) printf ", %d failed", f}' "$log")
  result[$name]=$outcome
  if [ $outcome = ok ]; then passed=$((passed + 1)); note "ok, $took s, $tests"; else
    failed=$((failed + 1)); note "FAILED after $took s; the end of its log:"
    grep -aE '^(error|failures:|---- |thread |Error:|not ok|FAIL|panicked)' "$log" | head -30 | sed 's/^/      /' >&2 || true
    tail -n 40 "$log" | sed 's/^/      /' >&2
  fi
  rows+=("$name|$outcome|$took s|$what ($tests)")
}

finish() {
  [ -n "$background" ] && kill "$background" 2>/dev/null
  if [ -z "$keep" ] && [ -x "$tools/ers-cluster" ] && { wanted up || wanted cluster; }; then
    cluster down >"$artifacts/down.log" 2>&1 || note "the test cluster did not go down cleanly: $artifacts/down.log"
  fi
}
trap finish EXIT

packages() { need_packages "${cluster_packages[@]}" "${test_packages[@]}"; }
formatted() { cargo fmt --all --check && test -z "$(gofmt -l e2e/cluster | tee /dev/stderr)"; }
generated() { "$bin_dir/ers-xtask" generate --check; }
tidy() { "$bin_dir/ers-xtask" tidy; }
lint() { cargo clippy --locked --workspace --all-targets --profile $profile -- -D warnings; }
unit() { ERS_E2E_TOOLS=$tools ERS_AGENT_BINARY=$bin_dir/ers-agent cargo test --locked --workspace --profile $profile --no-fail-fast; }
programs() { build_programs; ls -l "$bin_dir"/ers-{operator,server,agent}; }
cluster_tool() { (cd e2e/cluster && go vet ./... && go test ./...); }
cluster_build() { build_cluster_tool && cluster build && cluster tools; }
chart() { "$tools/helm" lint charts/ers && "$tools/kubectl" kustomize manifests/base >/dev/null; }
up() { e2e/up.sh; }
up_again() {
  local start; start=$(seconds)
  e2e/up.sh
  local took=$(($(seconds) - start)); echo "a second make up took $took s"
  [ $took -le 60 ]
}
on_cluster() {
  ERS_E2E_KUBECONFIG=$(cluster kubeconfig) ERS_E2E_TOOLS=$tools ERS_E2E_OPERATOR=$bin_dir/ers-operator ERS_E2E_AUDIT_LOG=$(dirname "$(cluster kubeconfig)")/log/audit.log \
    cargo test --locked --workspace --profile $profile --test cluster -- --test-threads 1 --nocapture
}
browser() { e2e/browser/run-cluster.sh; }
standalone() { e2e/browser/run-standalone.sh; }
existing() { e2e/existing.sh; }
plain_manifests() { "$tools/kubectl" --kubeconfig "$(cluster kubeconfig)" apply --dry-run=server -k manifests/base; }

cd "$root"
need_toolchains
stage packages "everything that is missing is installed" -- packages
# Go and Cargo side by side.
if wanted cluster-build; then
  ( build_cluster_tool && cluster build && cluster tools ) >"$artifacts/cluster-build-background.log" 2>&1 &
  background=$!
fi
stage format "sources are formatted" -- formatted
stage programs "the three programs" -- programs
stage generated "CRDs and the chart's copies are those that the types make" programs -- generated
stage tidy "rooms depend only on what they may" programs -- tidy
stage lint "no warning" -- lint
if [ -n "$background" ]; then wait "$background" || true; background=; fi
stage cluster-build "Kubernetes from source, kubectl, helm" packages -- cluster_build
stage unit "unit, golden, property, contract and loopback tests" -- unit
stage cluster-tool "the local cluster's own tests" -- cluster_tool
stage chart "helm lint, kustomize" cluster-build -- chart
stage up "make up: every sample is Ready by proof" programs cluster-build -- up
stage up-again "a second make up is quick" up -- up_again
stage browser "the page in a real browser, against the cluster" up -- browser
stage manifests "the chart without Helm: kubectl apply -k" up -- plain_manifests
stage standalone "one server without Kubernetes" programs -- standalone
stage existing "make up and make down in a cluster that exists, images from a registry" programs cluster-build -- existing
stage cluster "end to end on the cluster: data, rollouts, faults, bad input, at rest" up -- on_cluster

total=$(($(seconds) - began))
{
  printf '\n%-14s %-8s %8s  %s\n' stage result time 'what it proves'
  for row in "${rows[@]}"; do IFS='|' read -r name outcome took what <<<"$row"; printf '%-14s %-8s %8s  %s\n' "$name" "$outcome" "$took" "$what"; done
  printf '\nwhole run: %d min %d s (budget: cold 60 min, warm 15 min); logs in artifacts/\n' $((total / 60)) $((total % 60))
  printf '%d passed, %d failed\n' $passed $failed
} | tee "$artifacts/summary.txt"
[ $failed = 0 ]
