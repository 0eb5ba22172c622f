#!/usr/bin/env bash
# `make bench`: our figures beside those of Debian's node_exporter and Prometheus, from release builds, measured in the same run. Compare ratios.
source "$(dirname "$0")/lib.sh"
need_toolchains
need_packages prometheus prometheus-node-exporter
cd "$root"
say "release builds"
cargo build --locked --release -p ers-operator -p ers-server -p ers-agent
export ERS_BENCH_BIN=$CARGO_TARGET_DIR/release
say "sizes"
ls -l --block-size=K "$ERS_BENCH_BIN"/ers-{operator,server,agent} | awk '{print "    " $9, $5}' | sed "s|$ERS_BENCH_BIN/||"
say "agent: CPU and memory per scrape beside node_exporter"
cargo bench --locked -q -p ers-agent --bench host
say "store: samples per CPU second, bytes per sample"
cargo bench --locked -q -p ers-tsdb --bench ingest
say "server: ingest and queries beside Prometheus"
cargo bench --locked -q -p ers-e2e --bench peers
