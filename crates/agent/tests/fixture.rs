//! The collectors against node_exporter's own fixtures: same names, labels, types and values.

#[path = "support/recorded.rs"]
mod recorded;

use ers_agent::host::{Host, NetworkSource, Options, Roots};
use ers_agent::samples::Samples;
use ers_wire::exposition::{Entry, Format, Limits, Parser, parse_series};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Series by canonical form (labels sorted, empty ones dropped), with kind and value.
type Series = BTreeMap<String, (String, f64)>;

/// Families whose input is not among the fixtures, and why. Each is tested elsewhere.
const WITHOUT_INPUT: [(&str, &str); 12] = [
    ("node_disk_ata_", "udev data; diskstats.rs tests it"),
    ("node_disk_device_mapper_info", "udev data; diskstats.rs tests it"),
    ("node_disk_filesystem_info", "udev data; diskstats.rs tests it"),
    ("node_disk_info", "labels from udev data; diskstats.rs tests it"),
    ("node_network_receive_", "live netlink; links.rs and live.rs test it"),
    ("node_network_transmit_carrier", "live netlink"),
    ("node_network_transmit_co", "live netlink"),
    ("node_network_transmit_drop", "live netlink"),
    ("node_network_transmit_errs", "live netlink"),
    ("node_network_transmit_fifo", "live netlink"),
    ("node_os_", "no os-release; os.rs tests it"),
    ("node_exporter_build_info", "says who built it"),
];

/// What differs from one moment or machine to the next, as node_exporter's own test leaves out, and its Go runtime.
const LEFT_OUT: [&str; 12] = [
    "go_",
    "process_",
    "promhttp_",
    "node_scrape_collector_",
    "node_textfile_mtime_seconds",
    "node_time_seconds",
    "node_time_zone",
    "node_exporter_build_info",
    "node_selinux_",
    "node_uname_info",
    "node_filesystem_",
    "node_timex_",
];

fn has_prefix(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn read_series(text: &str, sys: &Path) -> Series {
    let mut parser = Parser::new(text.as_bytes(), Format::Text, Limits::default()).expect("utf-8");
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut series = Series::new();
    while let Some(entry) = parser.next_entry().expect("the exposition is valid") {
        match entry {
            Entry::Type { name, kind } => {
                kinds.insert(name.to_owned(), kind.as_str().to_owned());
            }
            Entry::Sample(sample) => {
                let mut name = String::new();
                let mut labels = BTreeMap::new();
                for (label, value) in parse_series(sample.series) {
                    if label == "__name__" {
                        name = value.into_owned();
                    } else if !value.is_empty() {
                        // Paths below the fixtures' folder are the same paths wherever it lies.
                        let here = sys.to_string_lossy();
                        labels.insert(label.into_owned(), value.replace(&*here, "collector/fixtures/sys"));
                    }
                }
                let kind = kinds.get(&name).cloned().unwrap_or_default();
                series.insert(format!("{name} {labels:?}"), (kind, sample.value));
            }
            _ => {}
        }
    }
    series
}

fn family(key: &str) -> &str {
    key.split(' ').next().unwrap_or_default()
}

#[test]
fn the_fixture_machine_gives_the_expected_output() {
    let data = recorded::node_exporter();
    let unpacked = tempfile::tempdir().expect("folder");
    recorded::unpack_ttar(&data.join("sys.ttar"), unpacked.path());
    let sys = unpacked.path().join("sys");

    let mut roots = Roots::new(data.join("proc"), sys.clone(), data.clone());
    roots.textfile = Some(data.join("textfile/two_metric_files"));
    let options = Options {
        roots,
        network: NetworkSource::Files,
        ignored_devices: vec!["dmz".into(), "int".into()],
        softirqs: true,
        in_cluster: false,
    };
    let mut samples = Samples::default();
    let mut host = Host::new(&options);
    host.collect(&mut samples);
    host.collect(&mut samples);
    let mut text = String::new();
    samples.write_text(&mut text);
    let ours = read_series(&text, &sys);
    let expected_text = std::fs::read_to_string(data.join("e2e-output.txt")).expect("expected output");
    let expected = read_series(&expected_text, &sys);

    let no_input: Vec<&str> = WITHOUT_INPUT.iter().map(|(prefix, _)| *prefix).collect();
    let families: BTreeSet<&str> = expected.keys().map(|key| family(key)).collect();
    let our_families: BTreeSet<&str> = ours.keys().map(|key| family(key)).collect();
    let is_compared = |name: &str| !has_prefix(name, &LEFT_OUT) && !has_prefix(name, &no_input);

    let mut differences = Vec::new();
    for (key, (kind, value)) in expected.iter().filter(|(key, _)| our_families.contains(family(key))) {
        if !is_compared(family(key)) {
            continue;
        }
        match ours.get(key) {
            None => differences.push(format!("missing: {key}")),
            Some((our_kind, _)) if our_kind != kind => {
                differences.push(format!("{key}: is a {our_kind}, not a {kind}"))
            }
            Some((_, our_value)) if our_value.to_bits() != value.to_bits() => {
                differences.push(format!("{key}: {our_value}, expected {value}"));
            }
            Some(_) => {}
        }
    }
    // The expected output was made with a filter on chips and one ARP device left out; neither is a difference.
    let is_filtered = |key: &str| key.starts_with("node_hwmon_") || key.contains(r#""device": "nope""#);
    for key in ours.keys().filter(|key| is_compared(family(key)) && !is_filtered(key)) {
        if !expected.contains_key(key) {
            differences.push(format!("not expected: {key}"));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));

    let uncovered: BTreeSet<&str> =
        families.into_iter().filter(|name| !our_families.contains(name) && is_compared(name)).collect();
    recorded::check_shrinking("baseline/families-not-covered.txt", &uncovered);
}
