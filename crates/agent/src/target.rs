//! One target that is scraped: its schedule, and the series that Prometheus keeps about each target.

use crate::batch::BatchWriter;
use crate::sender::Shared;
use ers_model::{Clock, Labels, METRIC_NAME, STALE_NAN};
use ers_wire::series_writer::encode_labels;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Label of every series about a target: which CollectorTarget it is of.
pub const TARGET_LABEL: &str = "ers_target";
const FAILURE: &str = "ers_target_failure";
/// A scrape that begins within this of its time is stamped with the time itself: regular stamps compress best.
const STAMP_TOLERANCE_MS: i64 = 20;

/// When a target is scraped: every interval, at an offset that its name decides, so that a fleet's scrapes are spread and
/// a restart does not move them.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval_ms: i64,
    offset_ms: i64,
}

impl Schedule {
    pub fn new(interval: Duration, identity: &str) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let offset_ms = (xxh3_64(identity.as_bytes()) % interval_ms as u64) as i64;
        Schedule { interval_ms, offset_ms }
    }

    /// The first time after now.
    pub fn next_after(&self, now_ms: i64) -> i64 {
        let since = now_ms - self.offset_ms;
        (since.div_euclid(self.interval_ms) + 1) * self.interval_ms + self.offset_ms
    }

    /// The stamp of a scrape that was due at one time and began at another.
    pub fn stamp(due_ms: i64, now_ms: i64) -> i64 {
        if (now_ms - due_ms).abs() <= STAMP_TOLERANCE_MS { due_ms } else { now_ms }
    }
}

/// Waits for the next time; returns it.
pub async fn wait(schedule: Schedule, clock: &dyn Clock) -> i64 {
    let now = clock.now_ms();
    let due = schedule.next_after(now);
    tokio::time::sleep(Duration::from_millis((due - now).max(0).unsigned_abs())).await;
    due
}

/// What a scrape that succeeded came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scraped {
    pub seconds: f64,
    /// Samples in the body.
    pub samples: u64,
    /// Samples that were taken over.
    pub kept: u64,
    /// Series that were not there before.
    pub added: u64,
}

/// Writes `up`, `scrape_*` and `ers_target_failure` of one target.
#[derive(Debug)]
pub struct Report {
    up: Vec<u8>,
    duration: Vec<u8>,
    samples: Vec<u8>,
    kept: Vec<u8>,
    added: Vec<u8>,
    labels: Labels,
    failing: Option<(&'static str, Vec<u8>)>,
    was_written: bool,
}

impl Report {
    /// `labels` are those of the target, with [`TARGET_LABEL`].
    pub fn new(labels: &Labels) -> Self {
        let named = |name: &str| encoded(labels, name, None);
        Report {
            up: named("up"),
            duration: named("scrape_duration_seconds"),
            samples: named("scrape_samples_scraped"),
            kept: named("scrape_samples_post_metric_relabeling"),
            added: named("scrape_series_added"),
            labels: labels.clone(),
            failing: None,
            was_written: false,
        }
    }

    pub fn success(&mut self, scraped: Scraped, timestamp_ms: i64, out: &mut BatchWriter) {
        self.write(1.0, scraped, timestamp_ms, out);
        self.end_failure(timestamp_ms, out);
    }

    /// `reason` is a word of a closed set.
    pub fn failure(&mut self, reason: &'static str, seconds: f64, timestamp_ms: i64, out: &mut BatchWriter) {
        self.write(0.0, Scraped { seconds, ..Scraped::default() }, timestamp_ms, out);
        if self.failing.as_ref().is_none_or(|(last, _)| *last != reason) {
            self.end_failure(timestamp_ms, out);
            self.failing = Some((reason, encoded(&self.labels, FAILURE, Some(reason))));
        }
        if let Some((_, labels)) = &self.failing {
            out.sample(labels, 1.0, timestamp_ms);
        }
    }

    /// The target is gone: its series end.
    pub fn gone(&mut self, timestamp_ms: i64, out: &mut BatchWriter) {
        if self.was_written {
            for labels in [&self.up, &self.duration, &self.samples, &self.kept, &self.added] {
                out.sample(labels, STALE_NAN, timestamp_ms);
            }
        }
        self.end_failure(timestamp_ms, out);
    }

    fn end_failure(&mut self, timestamp_ms: i64, out: &mut BatchWriter) {
        if let Some((_, labels)) = self.failing.take() {
            out.sample(&labels, STALE_NAN, timestamp_ms);
        }
    }

    fn write(&mut self, up: f64, scraped: Scraped, timestamp_ms: i64, out: &mut BatchWriter) {
        self.was_written = true;
        out.sample(&self.up, up, timestamp_ms);
        out.sample(&self.duration, scraped.seconds, timestamp_ms);
        out.sample(&self.samples, scraped.samples as f64, timestamp_ms);
        out.sample(&self.kept, scraped.kept as f64, timestamp_ms);
        out.sample(&self.added, scraped.added as f64, timestamp_ms);
    }
}

fn encoded(labels: &Labels, name: &str, reason: Option<&str>) -> Vec<u8> {
    let mut all = labels.clone();
    all.set(METRIC_NAME, name);
    if let Some(reason) = reason {
        all.set("reason", reason);
    }
    let mut out = Vec::new();
    encode_labels(&mut out, all.iter());
    out
}

/// Ships what a writer holds.
pub fn ship(shared: &Shared, out: &mut BatchWriter) {
    shared.submit(out.take());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_offset_over_restarts() {
        let schedule = Schedule::new(Duration::from_secs(15), "node/host");
        let first = schedule.next_after(1_000_000);
        assert!(first > 1_000_000 && first <= 1_015_000);
        assert_eq!(schedule.next_after(first), first + 15_000);
        assert_eq!(schedule.next_after(first - 1), first);
        let other = Schedule::new(Duration::from_secs(15), "other/host");
        assert_ne!(first, other.next_after(1_000_000));
    }

    #[test]
    fn small_delays_do_not_show_in_stamps() {
        assert_eq!(Schedule::stamp(1000, 1003), 1000);
        assert_eq!(Schedule::stamp(1000, 1500), 1500);
    }

    #[test]
    fn a_failure_has_one_series_per_reason_and_ends() {
        let mut report = Report::new(&Labels::from_pairs([("job", "j"), (TARGET_LABEL, "t")]));
        let mut out = BatchWriter::default();
        report.failure("timeout", 1.0, 0, &mut out);
        assert_eq!(out.samples(), 6);
        report.failure("timeout", 1.0, 1, &mut out);
        assert_eq!(out.samples(), 12);
        report.failure("tls_failed", 1.0, 2, &mut out);
        assert_eq!(out.samples(), 19);
        report.success(Scraped::default(), 3, &mut out);
        assert_eq!(out.samples(), 25);
        report.success(Scraped::default(), 4, &mut out);
        assert_eq!(out.samples(), 30);
        report.gone(5, &mut out);
        assert_eq!(out.samples(), 35);
    }
}
