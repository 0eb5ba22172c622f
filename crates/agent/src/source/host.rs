//! `HostMetrics`: this machine, under `job="node-exporter"`.
//!
//! A collection runs on a thread that may block; when it is not done in time the target is down, and the next one is left
//! out until it is: never two at once.

use crate::batch::BatchWriter;
use crate::host::{Host, Options};
use crate::samples::Samples;
use crate::sender::Shared;
use crate::series::{Refusal, SeriesCache};
use crate::source::own::Own;
use crate::target::{Report, Schedule, Scraped, TARGET_LABEL, ship, wait};
use ers_model::Labels;
use ers_model::agent_config::ScrapeLimits;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What the source needs to know beside the limits.
#[derive(Clone, Debug)]
pub struct HostSource {
    pub options: Options,
    pub node: String,
    /// Name of the CollectorTarget.
    pub target: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub limits: ScrapeLimits,
}

/// Collects over and over; the agent's own figures travel along, which spares a request each time. Never returns.
pub async fn run(source: HostSource, mut own: Own, shared: Shared) {
    let clock = shared.queue.borrow().clock().clone();
    let labels = Labels::from_pairs([("job", "node-exporter"), ("instance", &*source.node), ("node", &*source.node)]);
    let mut about = labels.clone();
    about.set(TARGET_LABEL, source.target.as_str());
    let mut report = Report::new(&about);
    let limits = source.limits;
    let mut cache = SeriesCache::new(labels, false, limits.max_series as usize, limits.max_labels as usize);
    let mut told = HashSet::new();
    let mut out = BatchWriter::default();
    let schedule = Schedule::new(source.interval, &format!("{}/host", source.node));
    let mut state = Some((Host::new(&source.options), Samples::default()));
    let mut running: Option<tokio::task::JoinHandle<(Host, Samples)>> = None;
    // The first collection comes at once: readiness waits for it.
    let mut due = clock.now_ms();
    loop {
        let stamp = Schedule::stamp(due, clock.now_ms());
        let began = Instant::now();
        if let Some((mut host, mut samples)) = state.take() {
            running = Some(tokio::task::spawn_blocking(move || {
                host.collect(&mut samples);
                (host, samples)
            }));
        } else {
            shared.queue.borrow().metrics().collections_late.inc();
        }
        let finished = match &mut running {
            Some(handle) => tokio::time::timeout(source.timeout, handle).await.ok(),
            None => None,
        };
        let seconds = began.elapsed().as_secs_f64();
        match finished {
            Some(Ok((host, samples))) => {
                running = None;
                match write(&mut cache, &samples, stamp, &mut told, &mut out) {
                    Ok(kept) => {
                        let added = u64::from(cache.added());
                        cache.end(stamp, &mut out);
                        let samples = samples.len() as u64;
                        report.success(Scraped { seconds, samples, kept, added }, stamp, &mut out);
                    }
                    Err(reason) => {
                        out.discard();
                        cache.abort(stamp, &mut out);
                        report.failure(reason, seconds, stamp, &mut out);
                    }
                }
                state = Some((host, samples));
            }
            Some(Err(error)) => {
                // A collector panicked: a bug, but one collection's.
                tracing::error!(%error, "collection failed");
                running = None;
                state = Some((Host::new(&source.options), Samples::default()));
                cache.abort(stamp, &mut out);
                report.failure("internal_error", seconds, stamp, &mut out);
            }
            None => {
                cache.abort(stamp, &mut out);
                report.failure("timeout", seconds, stamp, &mut out);
            }
        }
        own.write(&shared, stamp, &mut out);
        ship(&shared, &mut out);
        due = wait(schedule, &*clock).await;
    }
}

/// Writes a collection; samples taken over, or why it cannot be.
fn write(
    cache: &mut SeriesCache,
    samples: &Samples,
    stamp: i64,
    told: &mut HashSet<String>,
    out: &mut BatchWriter,
) -> Result<u64, &'static str> {
    cache.begin();
    let mut kept = 0;
    for sample in samples.iter() {
        let (slot, is_new) = match cache.slot(sample.series) {
            Ok(found) => found,
            Err(Refusal::Duplicate) => continue,
            Err(Refusal::TooManySeries) => return Err("too_many_series"),
            Err(Refusal::TooManyLabels) => return Err("too_many_labels"),
        };
        if is_new && !told.contains(sample.name) {
            told.insert(sample.name.to_owned());
            out.metadata(sample.name, sample.kind);
        }
        out.sample(cache.labels(slot), sample.value, stamp);
        kept += 1;
    }
    Ok(kept)
}
