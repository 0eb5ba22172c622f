#!/usr/bin/env bash
# The page on a real standalone server with a real agent, on loopback. Needs the programs (`cargo build`), starts its own
# server, ends it by its process id.
#   e2e/browser/run-standalone.sh [--serve]    --serve only starts the server, prints how to log in, and waits
source "$(dirname "$0")/prepare.sh"
server=${ERS_SERVER_BINARY:-$bin_dir/ers-server}
agent=${ERS_AGENT_BINARY:-$bin_dir/ers-agent}
for program in "$server" "$agent"; do [ -x "$program" ] || die "$program is missing: cargo build --profile $profile -p ers-server -p ers-agent"; done

work=$(mktemp -d "${TMPDIR:-/tmp}/ers-standalone.XXXXXX")
hook=$work/server
finish() {
  if [ -e "$work/groups" ]; then "$hook" end; fi
  rm -rf "$work"
}
trap finish EXIT
mkdir -p "$work/secrets" "$work/data"
# The manifests are copied: the server watches the folder, and a test must not make it watch the repository.
cp -r "$root/manifests/samples/standalone" "$work/manifests"
read -r port metrics_port < <(node -e '
  const net = require("node:net");
  const servers = [0, 0].map(() => net.createServer().listen(0, "127.0.0.1"));
  Promise.all(servers.map((s) => new Promise((ready) => s.on("listening", ready)))).then(() => {
    console.log(servers.map((s) => s.address().port).join(" "));
    for (const s of servers) s.close();
  });')
export ERS_URL=https://127.0.0.1:$port
log=${ERS_ARTIFACTS:-$root/artifacts/browser}/standalone-server.log
mkdir -p "$(dirname "$log")"

# The hook of the tests: the same file starts, stops, pauses and resumes the server, so that there is one way to do it.
cat > "$hook" <<HOOK
#!/usr/bin/env bash
set -euo pipefail
pid_file=$work/server.pid
case \$1 in
  start)
    setsid "$server" standalone --manifests "$work/manifests" --secrets-dir "$work/secrets" --data-dir "$work/data" \\
      --listen 127.0.0.1:$port --metrics-listen 127.0.0.1:$metrics_port --agent-binary "$agent" >>"$log" 2>&1 </dev/null &
    echo \$! > "\$pid_file"
    echo \$! >> "$work/groups"
    for _ in \$(seq 300); do
      curl -ksf --max-time 2 $ERS_URL/readyz >/dev/null && exit 0
      kill -0 "\$(cat "\$pid_file")" 2>/dev/null || { echo "the server ended: \$(tail -3 "$log")" >&2; exit 1; }
      sleep 0.2
    done
    echo "the server is not ready after 60 s: \$(curl -ks $ERS_URL/readyz)" >&2; exit 1 ;;
  # Killed without a chance to say goodbye: what was acknowledged must be there afterwards.
  stop) kill -9 "\$(cat "\$pid_file")"; while kill -0 "\$(cat "\$pid_file")" 2>/dev/null; do sleep 0.05; done ;;
  pause) kill -STOP "\$(cat "\$pid_file")" ;;
  resume) kill -CONT "\$(cat "\$pid_file")" ;;
  # Every process group that was started: a killed server may have left agents behind.
  end) while read -r group; do
      kill -CONT -- -"\$group" 2>/dev/null || continue
      kill -TERM -- -"\$group" 2>/dev/null || true
      for _ in \$(seq 100); do kill -0 -- -"\$group" 2>/dev/null || continue 2; sleep 0.1; done
      kill -9 -- -"\$group" 2>/dev/null || true
    done < "$work/groups" ;;
esac
HOOK
chmod +x "$hook"

say "starting ers-server standalone at $ERS_URL"
: > "$log"
"$hook" start
export ERS_USER=admin ERS_SERVER_HOOK=$hook ERS_CA_FILE=$work/ca.crt
ERS_PASSWORD=$(cat "$work/data/admin-password")
export ERS_PASSWORD
# The authority lies beside each supervised agent, which starts a moment after the server is ready.
for _ in $(seq 100); do
  for authority in "$work"/data/agents/*/ca.crt; do if [ -s "$authority" ]; then cp "$authority" "$ERS_CA_FILE"; break 2; fi; done
  sleep 0.2
done
[ -s "$ERS_CA_FILE" ] || die "no supervised agent was given a ca.crt within 20 s: $(tail -3 "$log")"

if [ "${1:-}" = --serve ]; then
  say "the page is at $ERS_URL, user $ERS_USER, password $ERS_PASSWORD; Ctrl-C ends it"
  wait_forever=$(mktemp -u "$work/wait.XXXXXX"); mkfifo "$wait_forever"; read -r < "$wait_forever" || true
  exit 0
fi
run_tests unit/ states/ server/
