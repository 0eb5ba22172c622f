# Sourced by the run scripts: packages, node modules, and one way to run the tests.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
browser_dir=$root/e2e/browser

# Without a font the screenshots show boxes.
need_packages chromium fonts-dejavu-core curl jq openssl
command -v node >/dev/null && command -v npm >/dev/null || die "node and npm are missing: install Node.js 20 or newer"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || die "Node.js 20 or newer is needed, this is $(node --version)"
if ! cmp -s "$browser_dir/package-lock.json" "$browser_dir/node_modules/.lock-used"; then
  say "installing the browser tests' packages"
  (cd "$browser_dir" && npm ci --no-audit --no-fund)
  cp "$browser_dir/package-lock.json" "$browser_dir/node_modules/.lock-used"
fi

# run_tests PATH...: one file after the other, for two cores are all that a small machine has.
run_tests() {
  (cd "$browser_dir" && node --test --test-concurrency=1 "$@")
}
