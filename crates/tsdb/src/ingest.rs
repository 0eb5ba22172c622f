//! From a request's bytes to samples of known series, and into the head.

use std::sync::{Arc, Mutex};

use ers_model::Sample;
use ers_wire::remote_write::{self, DecodeError, Encoder, Item, Metadata, Series as WireSeries};

use crate::codec;
use crate::error::{AppendError, LimitExceeded, LimitKind};
use crate::head::series::{Appended, Sealer, Series};
use crate::head::{Head, metric_of};
use crate::metadata::MetadataStore;
use crate::options::Limits;
use crate::stats::AppendOutcome;
use crate::sync::lock;

/// Memory of one request, used again for the next.
#[derive(Default)]
pub(crate) struct Scratch {
    pub raw: Vec<u8>,
    pub prepared: Prepared,
    pub codec: codec::Scratch,
}

/// A request whose series are found and whose samples are checked, not yet stored.
#[derive(Default)]
pub(crate) struct Prepared {
    samples: Vec<Sample>,
    /// Series and the end of its samples.
    series: Vec<(Arc<Series>, u32)>,
    pub outcome: AppendOutcome,
    pub newest_ms: i64,
    pub metadata_count: usize,
}

impl Prepared {
    fn clear(&mut self) {
        self.samples.clear();
        self.series.clear();
        self.outcome = AppendOutcome::default();
        self.newest_ms = i64::MIN;
        self.metadata_count = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.metadata_count == 0
    }

    /// The request without what was refused, in the labels that it is stored under.
    pub fn encode_accepted(&self, raw: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut encoder = Encoder::default();
        let mut start = 0;
        for (series, end) in &self.series {
            let labels = series.labels.iter().map(|(name, value)| (&**name, &**value));
            encoder.push_series(labels, &self.samples[start..*end as usize]);
            start = *end as usize;
        }
        for item in remote_write::decode_request(raw) {
            if let Item::Metadata(metadata) = item? {
                encoder.push_metadata(metadata);
            }
        }
        Ok(encoder.finish())
    }
}

/// Which samples are taken.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub oldest_ms: i64,
    pub newest_ms: i64,
}

pub(crate) struct Preparation<'a> {
    pub head: &'a Head,
    pub limits: &'a Limits,
    /// New series and requests over the limits are refused. Not so when the log is read again: what was acknowledged is taken back.
    pub enforce_limits: bool,
    pub enforced: &'a [(&'a str, &'a str)],
    pub bounds: Bounds,
}

impl Preparation<'_> {
    /// Reads the whole request before anything is stored: a malformed one leaves no trace but perhaps a series without samples.
    pub fn run(&self, raw: &[u8], into: &mut Prepared) -> Result<(), AppendError> {
        into.clear();
        let seed = self.head.seed_for(self.enforced);
        for item in remote_write::decode_request(raw) {
            match item? {
                Item::Series(series) => self.series(&series, seed, into)?,
                Item::Metadata(_) => into.metadata_count += 1,
            }
        }
        Ok(())
    }

    fn series(&self, wire: &WireSeries<'_>, seed: u64, into: &mut Prepared) -> Result<(), AppendError> {
        into.outcome.exemplars_dropped += wire.exemplar_count as u64;
        into.outcome.histograms_dropped += wire.histogram_count as u64;
        let samples = into.samples.len() + wire.sample_count;
        if self.enforce_limits && samples > self.limits.max_samples_per_request {
            let max = self.limits.max_samples_per_request;
            return Err(AppendError::TooManySamples { samples, max });
        }
        let key = wire.label_bytes().map(|bytes| Head::alias_key(bytes, seed));
        let known = key.and_then(|key| self.head.by_alias(key));
        let found = match known {
            Some(series) => Ok(series),
            None => self.unknown(wire, key, into)?,
        };
        let start = into.samples.len();
        for sample in wire.samples() {
            let sample = sample?;
            if sample.timestamp_ms < self.bounds.oldest_ms {
                into.outcome.too_old += 1;
            } else if sample.timestamp_ms > self.bounds.newest_ms {
                into.outcome.too_new += 1;
            } else {
                into.newest_ms = into.newest_ms.max(sample.timestamp_ms);
                into.samples.push(sample);
            }
        }
        match found {
            Ok(series) => {
                if into.samples.len() > start {
                    into.series.push((series, into.samples.len() as u32));
                }
            }
            Err(limit) => {
                into.outcome.refused_samples += (into.samples.len() - start) as u64;
                into.outcome.refused_series += 1;
                into.samples.truncate(start);
                into.outcome.limit.get_or_insert(limit);
            }
        }
        Ok(())
    }

    /// Labels in a spelling that was not seen before.
    fn unknown(
        &self,
        wire: &WireSeries<'_>,
        key: Option<u128>,
        into: &mut Prepared,
    ) -> Result<Result<Arc<Series>, LimitExceeded>, AppendError> {
        let max = self.limits.max_labels_per_series;
        if self.enforce_limits && wire.label_count > max {
            // Not collected: there may be very many.
            let metric = wire.labels().find_map(|label| label.ok().filter(|(name, _)| *name == ers_model::METRIC_NAME));
            return Ok(Err(LimitExceeded {
                what: LimitKind::LabelsPerSeries,
                metric: metric.map(|label| metric_of(&[label])).unwrap_or_default(),
                label: None,
                limit: max,
                found: wire.label_count,
            }));
        }
        let mut labels: Vec<(&str, &str)> = Vec::with_capacity(wire.label_count + self.enforced.len());
        for label in wire.labels() {
            let label = label?;
            if !self.enforced.iter().any(|(name, _)| *name == label.0) {
                labels.push(label);
            }
        }
        labels.extend_from_slice(self.enforced);
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable_by_key(|(name, _)| *name);
        if let Some(refusal) = self.refusal(&labels) {
            return Ok(Err(refusal));
        }
        let limit = self.enforce_limits.then_some(self.limits);
        Ok(self.head.by_labels(&labels, limit).map(|(series, new)| {
            into.outcome.new_series += u64::from(new);
            if let Some(key) = key {
                self.head.add_alias(key, &series);
            }
            series
        }))
    }

    fn refusal(&self, labels: &[(&str, &str)]) -> Option<LimitExceeded> {
        let refuse = |what, label: Option<&str>, limit, found| {
            let label = label.map(|name| name.chars().take(100).collect());
            Some(LimitExceeded { what, metric: metric_of(labels), label, limit, found })
        };
        if !labels.iter().any(|(name, _)| *name == ers_model::METRIC_NAME) {
            return refuse(LimitKind::InvalidLabels, Some(ers_model::METRIC_NAME), 1, 0);
        }
        if let Some((name, _)) = labels.first().filter(|(name, _)| name.is_empty()) {
            return refuse(LimitKind::InvalidLabels, Some(name), 0, 0);
        }
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return refuse(LimitKind::InvalidLabels, Some(pair[0].0), 1, 2);
        }
        if !self.enforce_limits {
            return None;
        }
        let limits = self.limits;
        if labels.len() > limits.max_labels_per_series {
            return refuse(LimitKind::LabelsPerSeries, None, limits.max_labels_per_series, labels.len());
        }
        for (name, value) in labels {
            if name.len() > limits.max_label_name_bytes {
                return refuse(LimitKind::LabelNameBytes, Some(name), limits.max_label_name_bytes, name.len());
            }
            if value.len() > limits.max_label_value_bytes {
                return refuse(LimitKind::LabelValueBytes, Some(name), limits.max_label_value_bytes, value.len());
            }
        }
        None
    }
}

/// Stores prepared samples; they are visible from here on. `keep` filters by time (all, but when the log is read again).
pub(crate) fn apply(
    head: &Head,
    block_ms: i64,
    prepared: &mut Prepared,
    codec: &mut codec::Scratch,
    keep: impl Fn(i64) -> bool,
) {
    let mut sealer = Sealer { columns: &head.columns, scratch: codec, block_ms };
    let mut start = 0;
    let outcome = &mut prepared.outcome;
    for (series, end) in prepared.series.drain(..) {
        let samples = &prepared.samples[start..end as usize];
        start = end as usize;
        let mut state = lock(&series.state);
        for sample in samples.iter().filter(|sample| keep(sample.timestamp_ms)) {
            match state.append(*sample, &mut sealer) {
                Appended::InOrder => outcome.accepted += 1,
                Appended::OutOfOrder => {
                    outcome.accepted += 1;
                    outcome.out_of_order += 1;
                }
                Appended::Duplicate => outcome.duplicates += 1,
                Appended::Conflict => outcome.conflicts += 1,
            }
        }
    }
    head.add_samples(outcome.accepted);
}

/// Takes up the metadata of a request that was prepared (so it decodes).
pub(crate) fn apply_metadata(raw: &[u8], store: &Mutex<MetadataStore>, limits: &Limits) {
    let mut store = lock(store);
    for item in remote_write::decode_request(raw) {
        if let Ok(Item::Metadata(metadata)) = item {
            store.put(&metadata, limits.max_metadata, limits.max_label_value_bytes);
        }
    }
}

/// The same request as a sender would make it, for samples made inside the server.
pub(crate) fn encode_batch<'a>(
    batch: impl Iterator<Item = (&'a ers_model::Labels, Sample)>,
    metadata: &[Metadata<'_>],
) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for (labels, sample) in batch {
        encoder.push_series(labels.iter(), &[sample]);
    }
    for metadata in metadata {
        encoder.push_metadata(*metadata);
    }
    encoder.finish()
}
