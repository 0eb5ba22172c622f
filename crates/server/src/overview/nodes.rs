//! The nodes' figures, by PromQL over the names that node_exporter has made common.

use std::collections::BTreeMap;

use ers_model::{METRIC_NAME, TimeRange, is_stale};
use ers_promql::{Engine, LabelMatcher, MatchOp, QueryValue, Select, SeriesSource, parse};
use serde::Serialize;

use super::OverviewError;

/// Nodes that were heard of within this time are listed.
const LISTED_MS: i64 = 3_600_000;
const MAX_SAMPLES: usize = 20_000_000;

/// One node. What is not known is null, never zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    pub node: String,
    pub last_sample_ms: i64,
    pub cpu_percent: Option<f64>,
    pub cpu_count: Option<f64>,
    pub memory_used_bytes: Option<f64>,
    pub memory_total_bytes: Option<f64>,
    pub load1: Option<f64>,
    pub load5: Option<f64>,
    pub load15: Option<f64>,
    pub disk_read_bytes_per_second: Option<f64>,
    pub disk_write_bytes_per_second: Option<f64>,
    pub filesystem_used_bytes: Option<f64>,
    pub filesystem_size_bytes: Option<f64>,
    pub network_receive_bytes_per_second: Option<f64>,
    pub network_transmit_bytes_per_second: Option<f64>,
    pub uptime_seconds: Option<f64>,
    pub kernel: Option<String>,
}

type Field = fn(&mut NodeRow) -> &mut Option<f64>;

/// Whole disks that are backed by something: no mappings, no loops, which would count twice.
const DISKS: &str = r#"device!~"dm-.*|md.*|loop.*|ram.*|sr.*""#;
/// Interfaces to the outside: those of pods and bridges count the same bytes again.
const INTERFACES: &str =
    r#"device!~"lo|veth.*|cali.*|cni.*|docker.*|br-.*|flannel.*|cilium.*|lxc.*|tunl.*|vxlan.*|dummy.*|nodelocaldns""#;

fn queries(window: &str) -> Vec<(String, Field)> {
    // The root file system if it is seen; otherwise all that have a device of their own.
    let filesystem = |metric: &str| {
        format!(
            r#"max by (node) ({metric}{{mountpoint="/"}}) or sum by (node) (max by (node, device) ({metric}{{device=~"/dev/.+"}}))"#
        )
    };
    let disk = |metric: &str| format!("sum by (node) (rate({metric}{{{DISKS}}}[{window}]))");
    let network = |metric: &str| format!("sum by (node) (rate({metric}{{{INTERFACES}}}[{window}]))");
    vec![
        (format!(r#"100 * (1 - avg by (node) (rate(node_cpu_seconds_total{{mode="idle"}}[{window}])))"#), |row| {
            &mut row.cpu_percent
        }),
        (r#"count by (node) (node_cpu_seconds_total{mode="idle"})"#.to_owned(), |row| &mut row.cpu_count),
        ("max by (node) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)".to_owned(), |row| {
            &mut row.memory_used_bytes
        }),
        ("max by (node) (node_memory_MemTotal_bytes)".to_owned(), |row| &mut row.memory_total_bytes),
        ("max by (node) (node_load1)".to_owned(), |row| &mut row.load1),
        ("max by (node) (node_load5)".to_owned(), |row| &mut row.load5),
        ("max by (node) (node_load15)".to_owned(), |row| &mut row.load15),
        (disk("node_disk_read_bytes_total"), |row| &mut row.disk_read_bytes_per_second),
        (disk("node_disk_written_bytes_total"), |row| &mut row.disk_write_bytes_per_second),
        (filesystem("node_filesystem_size_bytes"), |row| &mut row.filesystem_size_bytes),
        // Free, not yet subtracted: see below.
        (filesystem("node_filesystem_free_bytes"), |row| &mut row.filesystem_used_bytes),
        (network("node_network_receive_bytes_total"), |row| &mut row.network_receive_bytes_per_second),
        (network("node_network_transmit_bytes_total"), |row| &mut row.network_transmit_bytes_per_second),
        ("max by (node) (time() - node_boot_time_seconds)".to_owned(), |row| &mut row.uptime_seconds),
    ]
}

/// All nodes heard of within the hour, by name.
pub fn read(source: &dyn SeriesSource, now_ms: i64, longest_interval_ms: i64) -> Result<Vec<NodeRow>, OverviewError> {
    let mut rows = listed(source, now_ms)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    // Four scrapes fit, so that one may be lost.
    let window = format!("{}ms", (longest_interval_ms * 4).clamp(60_000, 3_600_000));
    let engine = Engine { max_samples: MAX_SAMPLES, ..Engine::default() };
    for (text, field) in queries(&window) {
        let expr = parse(&text).expect("the overview's queries are right: a test parses them");
        let result = engine.instant(&expr, source, now_ms).map_err(OverviewError::Query)?;
        let QueryValue::Vector { samples, .. } = result.value else { continue };
        for sample in samples {
            let node = sample.labels.get("node").unwrap_or_default();
            if let Some(row) = rows.get_mut(node).filter(|_| sample.value.is_finite()) {
                *field(row) = Some(sample.value);
            }
        }
    }
    for row in rows.values_mut() {
        row.filesystem_used_bytes = match (row.filesystem_size_bytes, row.filesystem_used_bytes) {
            (Some(size), Some(free)) => Some(size - free),
            _ => None,
        };
        // Rounding of counters can give a hair outside.
        row.cpu_percent = row.cpu_percent.map(|percent| percent.clamp(0.0, 100.0));
    }
    Ok(rows.into_values().collect())
}

/// Node, newest sample and kernel, from the one series that every agent of a node sends.
fn listed(source: &dyn SeriesSource, now_ms: i64) -> Result<BTreeMap<String, NodeRow>, OverviewError> {
    let equal =
        |value| LabelMatcher::new(METRIC_NAME, MatchOp::Equal, value).expect("only regular expressions can be wrong");
    let present = LabelMatcher::new("node", MatchOp::NotEqual, "").expect("only regular expressions can be wrong");
    let matchers = [equal("node_uname_info"), present];
    let range = TimeRange { start_ms: now_ms - LISTED_MS, end_ms: now_ms };
    let select = Select { matchers: &matchers, range, max_samples: MAX_SAMPLES, windows: None };
    let mut rows: BTreeMap<String, NodeRow> = BTreeMap::new();
    for series in source.select(&select).map_err(OverviewError::Targets)? {
        let samples = series.timestamps.iter().zip(&series.values);
        let Some((last, _)) = samples.rev().find(|(_, value)| !is_stale(**value)) else { continue };
        let node = series.labels.get("node").unwrap_or_default();
        let row = rows.entry(node.to_owned()).or_default();
        if row.last_sample_ms <= *last {
            row.node = node.to_owned();
            row.last_sample_ms = *last;
            row.kernel = series.labels.get("release").map(str::to_owned);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_parses() {
        for (text, _) in queries("60000ms") {
            parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
