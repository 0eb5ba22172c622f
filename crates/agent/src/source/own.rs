//! The agent's own metrics, under `job="ers-agent"`: encoded as anyone's and read as anyone's.

use crate::batch::BatchWriter;
use crate::sender::Shared;
use crate::series::SeriesCache;
use crate::target::{Schedule, TARGET_LABEL, ship, wait};
use ers_model::Labels;
use ers_telemetry::Metrics;
use ers_wire::exposition::{Entry, Format, Limits, Parser};
use std::time::Duration;

/// More than the agent ever has.
const MOST_SERIES: usize = 1_000;

/// The agent as a target of its own.
#[derive(Debug)]
pub struct Own {
    metrics: Metrics,
    cache: SeriesCache,
    identity: String,
}

impl Own {
    pub fn new(metrics: Metrics, node: &str, target: &str) -> Self {
        let labels =
            Labels::from_pairs([("job", "ers-agent"), ("instance", node), ("node", node), (TARGET_LABEL, target)]);
        let cache = SeriesCache::new(labels, false, MOST_SERIES, 16);
        Own { metrics, cache, identity: format!("{node}/own") }
    }

    /// Writes the figures of this moment.
    pub fn write(&mut self, shared: &Shared, stamp: i64, out: &mut BatchWriter) {
        let queue = shared.queue.borrow();
        queue.refresh();
        let (cpu, resident) = usage();
        queue.metrics().cpu_seconds.set(cpu);
        queue.metrics().resident_memory_bytes.set(resident);
        drop(queue);
        if let Err(error) = write(&self.metrics.encode(), stamp, &mut self.cache, out) {
            tracing::error!(%error, "own metrics cannot be read");
        }
    }
}

/// Ships the agent's figures over and over, where there is no host source to travel with. Never returns.
pub async fn run(mut own: Own, interval: Duration, shared: Shared) {
    let clock = shared.queue.borrow().clock().clone();
    let mut out = BatchWriter::default();
    let schedule = Schedule::new(interval, &own.identity);
    loop {
        let due = wait(schedule, &*clock).await;
        own.write(&shared, Schedule::stamp(due, clock.now_ms()), &mut out);
        ship(&shared, &mut out);
    }
}

fn write(
    text: &str,
    stamp: i64,
    cache: &mut SeriesCache,
    out: &mut BatchWriter,
) -> Result<(), ers_wire::exposition::ParseError> {
    let mut parser = Parser::new(text.as_bytes(), Format::OpenMetrics, Limits::default())?;
    cache.begin();
    while let Some(entry) = parser.next_entry()? {
        if let Entry::Sample(sample) = entry {
            // Far below any limit, and no series twice.
            if let Ok((slot, _)) = cache.slot(sample.series) {
                out.sample(cache.labels(slot), sample.value, stamp);
            }
        }
    }
    cache.end(stamp, out);
    Ok(())
}

/// CPU seconds and resident bytes of this process, zero where `/proc` does not say.
fn usage() -> (f64, i64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let cpu = (ticks() + ticks()) as f64 / rustix::param::clock_ticks_per_second() as f64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: i64 = statm.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (cpu, pages * rustix::param::page_size() as i64)
}
