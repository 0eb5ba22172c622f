# Shared by up.sh, down.sh, test.sh and bench.sh: folders, messages, builds, images.
# shellcheck shell=bash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${ERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ers}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export GOFLAGS=${GOFLAGS:-}
export ERS_SHARED_DATA=${ERS_SHARED_DATA:-$root/../shared/data}
# How many crates compile at once is cargo's business; the linker's memory is ours.
profile=ci
bin_dir=$CARGO_TARGET_DIR/$profile
tools=$cache/bin
# The cluster's name decides its network namespace, its subnet and its state folder.
export ERS_CLUSTER=${ERS_CLUSTER:-ers}
mkdir -p "$tools" "$cache/images"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() { printf '\033[31merror:\033[0m %s\n' "$*" >&2; exit 1; }

# Names what is missing and, as root, installs it.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" != 0 ]; then
    die "these packages are missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}"
  fi
  say "installing packages: ${missing[*]}"
  apt-get update -qq
  # Debian starts some of these as services; ours are started by the tests themselves, so none may start by itself.
  local policy=/usr/sbin/policy-rc.d made=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; made=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 || {
    [ -n "$made" ] && rm -f $policy
    tail -20 "$cache/apt.log" >&2
    die "apt-get could not install: ${missing[*]}"
  }
  [ -n "$made" ] && rm -f $policy
  return 0
}

cluster_packages=(containerd runc containernetworking-plugins iptables iproute2 conntrack util-linux gcc libc6-dev openssl)
test_packages=(chromium prometheus prometheus-node-exporter curl jq)

need_toolchains() {
  command -v cargo >/dev/null || die "cargo is missing: install Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")"
  command -v go >/dev/null || die "go is missing: install Go 1.24 or newer (the local cluster is built from source)"
}

# The cluster tool itself: small, built by every run (a second build is instant).
build_cluster_tool() {
  (cd "$root/e2e/cluster" && CGO_ENABLED=0 go build -trimpath -o "$tools/ers-cluster" .)
}

cluster() { "$tools/ers-cluster" "$@"; }

# Programs that run in the images and in the tests, all of one profile.
build_programs() {
  # The whole workspace, so that every call of cargo chooses the same features and nothing is built twice.
  (cd "$root" && cargo build --locked --profile $profile --workspace --bins "$@")
}

# One image per program; the tag is the hash of the content, so a changed program rolls out and an unchanged one does not.
# Prints `<program> <reference> <archive>` per line.
build_images() {
  local program archive reference
  for program in ers-operator ers-server ers-agent; do
    archive=$cache/images/$program.tar
    reference=$(cluster image -repository "${IMAGE_REPOSITORY:-localhost}/$program" -o "$archive" "$bin_dir/$program" | awk '{print $1}' | tail -1)
    printf '%s %s %s\n' "$program" "$reference" "$archive"
  done
}

seconds() { date +%s; }
