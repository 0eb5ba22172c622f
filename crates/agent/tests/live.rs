//! The collectors on this very machine: against the kernel's files, and against what dashboards ask for.

#[path = "support/recorded.rs"]
mod recorded;

use ers_agent::host::{Host, NetworkSource, Options, Roots};
use ers_agent::samples::Samples;
use std::collections::BTreeSet;
use std::process::Command;

fn collect() -> Samples {
    let mut samples = Samples::default();
    Host::new(&Options::for_roots(Roots::default())).collect(&mut samples);
    samples
}

fn value(samples: &Samples, series: &str) -> f64 {
    let found = samples.iter().find(|sample| sample.series == series);
    found.map(|sample| sample.value).unwrap_or_else(|| unreachable!("{series} is not there"))
}

#[test]
fn this_machine_is_read_as_its_files_say() {
    let samples = collect();
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let total: f64 = meminfo.split_ascii_whitespace().nth(1).expect("a number").parse().expect("a number");
    assert_eq!(value(&samples, "node_memory_MemTotal_bytes"), total * 1024.0);
    let stat = std::fs::read_to_string("/proc/stat").expect("stat");
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")).expect("boot time");
    assert_eq!(value(&samples, "node_boot_time_seconds"), boot.parse::<f64>().expect("a number"));
    assert_eq!(Options::for_roots(Roots::default()).network, NetworkSource::Netlink);
    for collector in ["cpu", "diskstats", "filesystem", "meminfo", "netclass", "netdev", "stat", "uname", "vmstat"] {
        let series = format!("node_scrape_collector_success{{collector=\"{collector}\"}}");
        assert_eq!(value(&samples, &series), 1.0, "{collector}");
    }
    assert!(samples.iter().any(|sample| sample.series.starts_with("node_filesystem_size_bytes{")));
    assert!(samples.iter().any(|sample| sample.series == "node_network_receive_bytes_total{device=\"lo\"}"));
}

#[test]
fn every_collector_says_how_it_did() {
    let samples = collect();
    let count = |name: &str| samples.iter().filter(|sample| sample.name == name).count();
    assert!(count("node_scrape_collector_success") >= 35);
    assert_eq!(count("node_scrape_collector_success"), count("node_scrape_collector_duration_seconds"));
    assert_eq!(count("node_exporter_build_info"), 1);
}

#[test]
fn no_series_occurs_twice() {
    let samples = collect();
    let series: BTreeSet<&str> = samples.iter().map(|sample| sample.series).collect();
    assert_eq!(series.len(), samples.len());
}

/// Names like `node_load1` in a text.
fn node_names(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("node_") && word.len() > "node_".len() && !word.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn dashboard_1860_finds_its_metrics() {
    let dashboard = recorded::shared_data().join("grafana/node-exporter-full-1860.json");
    let text = std::fs::read_to_string(dashboard).expect("the dashboard");
    let mut asked = BTreeSet::new();
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    expressions(&document, &mut asked);

    let samples = collect();
    let mut emitted: BTreeSet<String> = samples.iter().map(|sample| sample.name.to_owned()).collect();
    let data = recorded::node_exporter();
    let unpacked = tempfile::tempdir().expect("folder");
    recorded::unpack_ttar(&data.join("sys.ttar"), unpacked.path());
    let roots = Roots::new(data.join("proc"), unpacked.path().join("sys"), data.clone());
    let mut fixture = Samples::default();
    Host::new(&Options::for_roots(roots)).collect(&mut fixture);
    emitted.extend(fixture.iter().map(|sample| sample.name.to_owned()));

    let found: BTreeSet<&str> = asked.iter().filter(|name| emitted.contains(*name)).map(String::as_str).collect();
    let missing: Vec<&String> = asked.iter().filter(|name| !emitted.contains(*name)).collect();
    println!("{} of {} names of dashboard 1860; not: {missing:?}", found.len(), asked.len());
    recorded::check_growing("baseline/dashboard-1860.txt", &found);
}

fn expressions(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    serde_json::Value::String(text) if name == "expr" => found.extend(node_names(text)),
                    other => expressions(other, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn the_command_line_prints_what_node_exporter_would_serve() {
    let output = Command::new(env!("CARGO_BIN_EXE_ers-agent")).arg("collect").output().expect("runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("# TYPE node_cpu_seconds_total counter\nnode_cpu_seconds_total{cpu=\"0\",mode=\"user\"} "));
    assert!(text.contains("\nnode_uname_info{domainname="));
}
