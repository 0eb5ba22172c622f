//! Figures of the engine, on data like a node's: `cargo bench -p ers-tsdb [-- SERIES_GROUPS HOURS]`.
//!
//! Prints what the must-bars of the design name: samples per CPU second through `append_remote_write`, the ceiling of decoding alone, bytes per sample,
//! replay speed, select speed from memory and from segments. CPU seconds are those of this process (user and system).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Instant;

use ers_model::{Clock, Labels, Sample, TimeRange};
use ers_promql::source::{LabelMatcher, MatchOp, Select, SeriesSource};
use ers_tsdb::{CommitMode, Db, DbOptions, HOUR_MS, Tenant};
use ers_wire::remote_write::{TimeSeries, decode_series, decompress, encode};

const T0: i64 = 1_700_006_400_000;
const STEP_MS: i64 = 15_000;
/// Samples in one request.
const BATCH: usize = 2000;

struct BenchClock(AtomicI64);

impl Clock for BenchClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// User and system time of this process in seconds, from `/proc/self/stat` (100 ticks a second).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / 100.0
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// 36 series of one host: counters, gauges, constants, and two of random doubles.
struct Group {
    series: Vec<Labels>,
    state: Vec<f64>,
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn groups(count: usize) -> Vec<Group> {
    (0..count)
        .map(|host| {
            let (host, cluster) = (format!("node-{host:05}.example"), format!("cluster-{}", host % 7));
            let series = (0..36).map(|number| {
                let metric = format!("node_metric_{number}_total");
                let device = format!("dev{number}");
                Labels::from_pairs([
                    ("__name__", metric.as_str()),
                    ("cluster", &cluster),
                    ("device", &device),
                    ("instance", &host),
                    ("job", "node-exporter"),
                    ("node", &host),
                    ("region", "eu-central-1"),
                ])
            });
            Group { series: series.collect(), state: vec![0.0; 36] }
        })
        .collect()
}

fn next_value(number: usize, old: f64, seed: &mut u64) -> f64 {
    let random = random(seed);
    match number {
        // Random doubles: nothing compresses them.
        0 | 1 => random as f64 / u64::MAX as f64,
        // Counters of seconds with two digits, of bytes, of events.
        2..12 => ((old * 100.0).round() + (random % 1500) as f64) / 100.0,
        12..18 => old + (random % 3_000_000) as f64,
        18..22 => old + (random % 40) as f64,
        // Memory in pages.
        22..28 => 8e9 + (random % 4096) as f64 * 4096.0,
        // Constants.
        _ => number as f64,
    }
}

fn bodies(groups: &mut [Group], steps: i64, seed: &mut u64) -> Vec<(i64, Vec<u8>)> {
    let mut bodies = Vec::new();
    let hosts = BATCH / 36;
    for step in 0..steps {
        for (part, groups) in groups.chunks_mut(hosts).enumerate() {
            // Each agent scrapes at its own moment, with a few milliseconds of jitter.
            let mut samples = Vec::with_capacity(BATCH);
            for (host, group) in groups.iter_mut().enumerate() {
                let jitter = if random(seed) % 10 < 3 { (random(seed) % 7) as i64 } else { 0 };
                let timestamp_ms = T0 + step * STEP_MS + (part * hosts + host) as i64 % 15_000 + jitter;
                for number in 0..36 {
                    group.state[number] = next_value(number, group.state[number], seed);
                    samples.push([Sample { timestamp_ms, value: group.state[number] }]);
                }
            }
            let labels = groups.iter().flat_map(|group| &group.series);
            let series: Vec<_> = labels.zip(&samples).map(|(labels, samples)| TimeSeries { labels, samples }).collect();
            bodies.push((T0 + step * STEP_MS + 15_000, encode(&series, &[])));
        }
    }
    bodies
}

fn report(what: &str, samples: usize, cpu: f64, wall: f64) {
    let per_cpu = samples as f64 / cpu.max(0.01) / 1e6;
    println!("{what:<46} {samples:>11} samples  {cpu:>7.2} CPU-s  {wall:>7.2} s  {per_cpu:>8.2} M/CPU-s");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let done = work();
    (done, cpu_seconds() - cpu, wall.elapsed().as_secs_f64())
}

fn send_all(db: &Db, bodies: &[(i64, Vec<u8>)], threads: usize) -> usize {
    let (next, accepted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((recv_ms, body)) = bodies.get(at) else { return };
                    match db.append_remote_write(&[], body, *recv_ms) {
                        Ok(outcome) => accepted.fetch_add(outcome.accepted as usize, Ordering::Relaxed),
                        Err(error) => {
                            eprintln!("refused: {error}");
                            return;
                        }
                    };
                }
            });
        }
    });
    accepted.into_inner()
}

fn select(db: &Db, name: &str, hours: i64) -> Result<usize, Box<dyn std::error::Error>> {
    let matchers = [LabelMatcher::new("__name__", MatchOp::Equal, name)?];
    let range = TimeRange { start_ms: T0, end_ms: T0 + hours * HOUR_MS };
    let answer =
        db.reader(Vec::new()).select(&Select { matchers: &matchers, range, max_samples: usize::MAX, windows: None })?;
    Ok(answer.iter().map(|series| series.values.len()).sum())
}

fn selects(db: &Db, what: &str, hours: i64) -> Result<(), Box<dyn std::error::Error>> {
    let (samples, cpu, wall) = timed(|| {
        (2..28).map(|number| select(db, &format!("node_metric_{number}_total"), hours)).sum::<Result<usize, _>>()
    });
    report(what, samples?, cpu, wall);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let hosts: usize = arguments.next().map_or(Ok(280), |text| text.parse())?;
    let hours: i64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut groups = groups(hosts);
    let bodies = bodies(&mut groups, hours * HOUR_MS / STEP_MS, &mut seed);
    let body_bytes: usize = bodies.iter().map(|(_, body)| body.len()).sum();
    println!("{} series, {hours} h at 15 s, {} requests, {body_bytes} bytes as received", hosts * 36, bodies.len());

    let (decoded, cpu, wall) = timed(|| {
        let (mut raw, mut count) = (Vec::new(), 0);
        for (_, body) in &bodies {
            if decompress(body, usize::MAX, &mut raw).is_ok() {
                count += decode_series(&raw).flatten().map(|series| series.samples().count()).sum::<usize>();
            }
        }
        count
    });
    report("ceiling: decompress and walk only", decoded, cpu, wall);

    let clock = Arc::new(BenchClock(AtomicI64::new(T0 + hours * HOUR_MS)));
    let tenant = Tenant { uuid: uuid::Uuid::from_u128(1), number: 1 };
    let options = |commit| DbOptions { commit, ..DbOptions::new(tenant, clock.clone()) };
    for (commit, threads, what) in [
        (CommitMode::None, 1, "ingest, no sync, 1 sender"),
        (CommitMode::Async, 1, "ingest, async, 1 sender"),
        (CommitMode::Group, 4, "ingest, group commit, 4 senders"),
        (CommitMode::Group, 16, "ingest, group commit, 16 senders"),
    ] {
        let dir = tempfile::tempdir()?;
        let (db, _) = Db::open(dir.path(), options(commit), T0)?;
        let before = rss_mib();
        let (accepted, cpu, wall) = timed(|| send_all(&db, &bodies, threads));
        report(what, accepted, cpu, wall);
        if threads != 16 {
            continue;
        }
        let stats = db.stats();
        println!(
            "  RSS +{:.0} MiB for {} active series; log {:.2} B/sample",
            rss_mib() - before,
            stats.active_series,
            stats.wal_bytes as f64 / accepted as f64
        );
        selects(&db, "select 26 metrics from memory, first", hours)?;
        selects(&db, "select 26 metrics from memory, again", hours)?;
        drop(db);
        let (opened, cpu, wall) = timed(|| Db::open(dir.path(), options(commit), T0));
        let (db, found) = opened?;
        report("replay of the log", found.wal_samples as usize, cpu, wall);
        let now = T0 + hours * HOUR_MS;
        let (flushed, cpu, wall) = timed(|| db.flush_all(now));
        report("flush to segments", flushed?.flushed_samples as usize, cpu, wall);
        let size = |db: &Db| db.stats().segment_bytes as f64 / db.stats().segment_samples as f64;
        println!("  {:.3} B/sample in {} segments, index included", size(&db), db.stats().segments);
        selects(&db, "select 26 metrics from segments, first", hours)?;
        selects(&db, "select 26 metrics from segments, again", hours)?;
        let (merged, cpu, wall) = timed(|| {
            let mut merged = 0;
            loop {
                match db.maintain(now + 36 * HOUR_MS) {
                    Ok(report) if report.compacted_segments > 0 => merged += report.compacted_segments,
                    Ok(_) => return Ok(merged),
                    Err(error) => return Err(error),
                }
            }
        });
        merged?;
        report("merge to a day", accepted, cpu, wall);
        println!("  {:.3} B/sample in {} segments", size(&db), db.stats().segments);
        selects(&db, "select 26 metrics from merged segments", hours)?;
    }
    Ok(())
}
