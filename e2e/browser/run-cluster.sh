#!/usr/bin/env bash
# The page on the local cluster that `make up` made. Stops the server by taking its pod away from a cordoned node, so that
# it stays away until the test starts it again; pauses it by a signal to the process of exactly this pod.
source "$(dirname "$0")/prepare.sh"
namespace=${ERS_NAMESPACE:-demo}
kubeconfig=${KUBECONFIG_FOR_TESTS:-$("$tools/ers-cluster" kubeconfig)}
kubectl=$tools/kubectl
k() { "$kubectl" --kubeconfig "$kubeconfig" -n "$namespace" "$@"; }

policy=$(k get reportpolicies -o jsonpath='{.items[0].metadata.name}')
[ -n "$policy" ] || die "namespace $namespace has no ReportPolicy: run make up first"
pod=$policy-server-0
work=$(mktemp -d "${TMPDIR:-/tmp}/ers-browser.XXXXXX")
k get configmap "$policy-ca" -o jsonpath='{.data.ca\.crt}' > "$work/ca.crt"
ERS_PASSWORD=$(k get secret "$policy-admin" -o jsonpath='{.data.password}' | base64 -d)
ERS_USER=$(k get secret "$policy-admin" -o jsonpath='{.data.username}' | base64 -d)
ERS_URL=https://$(k get service "$policy-server" -o jsonpath='{.spec.clusterIP}'):8443
export ERS_PASSWORD ERS_USER ERS_URL ERS_CA_FILE=$work/ca.crt ERS_SERVER_NAME=$policy-server.$namespace.svc ERS_SERVER_HOOK=$work/server

cat > "$ERS_SERVER_HOOK" <<HOOK
#!/usr/bin/env bash
set -euo pipefail
k() { "$kubectl" --kubeconfig "$kubeconfig" -n "$namespace" "\$@"; }
node=\$(k get pod $pod -o jsonpath='{.spec.nodeName}' 2>/dev/null || true)
# The process of this pod and of no other: its control group carries the pod's uid, with - or _ depending on the driver.
server_pids() {
  local uid group; uid=\$(k get pod $pod -o jsonpath='{.metadata.uid}')
  for group in /proc/[0-9]*/cgroup; do
    grep -qE "\$uid|\${uid//-/_}" "\$group" 2>/dev/null || continue
    [ "\$(cat "\${group%/cgroup}/comm" 2>/dev/null)" = ers-server ] && basename "\${group%/cgroup}"
  done
}
case \$1 in
  stop) echo "\$node" > $work/node; k cordon "\$node" >/dev/null; k delete pod $pod --grace-period=0 --force >/dev/null 2>&1 ;;
  start) k uncordon "\$(cat $work/node)" >/dev/null; rm -f $work/node
    for _ in \$(seq 60); do k wait pod/$pod --for=condition=Ready --timeout=5s >/dev/null 2>&1 && exit 0; sleep 1; done
    k describe pod $pod >&2; exit 1 ;;
  pause|resume) pids=\$(server_pids); [ -n "\$pids" ] || { echo "no process of $pod on this machine" >&2; exit 1; }
    kill -\$([ \$1 = pause ] && echo STOP || echo CONT) \$pids ;;
esac
HOOK
chmod +x "$ERS_SERVER_HOOK"
finish() {
  # A test that was cut off must not leave a cordoned node behind.
  if [ -e "$work/node" ]; then k uncordon "$(cat "$work/node")" >/dev/null; fi
  rm -rf "$work"
}
trap finish EXIT
run_tests server/
