//! A source of series in memory.

use std::sync::Arc;

use ers_model::Labels;
use ers_promql::{LabelMatcher, SampleWindows, Select, SeriesData, SeriesSource, SourceError};

use super::script::LoadedSeries;

#[derive(Debug)]
struct Stored {
    labels: Arc<Labels>,
    samples: Vec<(i64, f64)>,
    has_histograms: bool,
    has_start_times: bool,
}

#[derive(Debug, Default)]
pub struct Memory {
    series: Vec<Stored>,
    /// A load made native histograms of classic ones.
    pub converted: bool,
}

impl Memory {
    pub fn load(&mut self, loaded: Vec<LoadedSeries>) {
        for new in loaded {
            let at = self.series.iter().position(|known| *known.labels == new.labels).unwrap_or_else(|| {
                let labels = Arc::new(new.labels.clone());
                self.series.push(Stored { labels, samples: Vec::new(), has_histograms: false, has_start_times: false });
                self.series.len() - 1
            });
            let stored = &mut self.series[at];
            stored.has_start_times |= new.has_start_times;
            for (time, value) in new.samples {
                match value {
                    Some(value) => stored.samples.push((time, value)),
                    None => stored.has_histograms = true,
                }
            }
            stored.samples.sort_by_key(|(time, _)| *time);
            stored.samples.dedup_by_key(|(time, _)| *time);
        }
    }

    fn matching<'a>(&'a self, matchers: &'a [LabelMatcher]) -> impl Iterator<Item = &'a Stored> {
        self.series.iter().filter(|series| matchers.iter().all(|matcher| matcher.matches_labels(&series.labels)))
    }

    pub fn has_histograms(&self, matchers: &[LabelMatcher]) -> bool {
        self.matching(matchers).any(|series| series.has_histograms)
    }

    pub fn has_start_times(&self, matchers: &[LabelMatcher]) -> bool {
        self.matching(matchers).any(|series| series.has_start_times)
    }
}

/// Only what the windows name, so that a query which needs more would be noticed.
fn used_samples(samples: &[(i64, f64)], windows: &SampleWindows) -> Vec<(i64, f64)> {
    let mut used = vec![false; samples.len()];
    for window in 0..windows.count as i64 {
        let end = windows.first_end_ms + window * windows.step_ms;
        let from = samples.partition_point(|(time, _)| *time <= end - windows.length_ms);
        let to = samples.partition_point(|(time, _)| *time <= end);
        let from = if windows.last_only { to.saturating_sub(1).max(from) } else { from };
        used[from..to].fill(true);
    }
    samples.iter().zip(used).filter(|(_, used)| *used).map(|(sample, _)| *sample).collect()
}

impl SeriesSource for Memory {
    fn select(&self, select: &Select<'_>) -> Result<Vec<SeriesData>, SourceError> {
        let mut found = Vec::new();
        let mut count = 0;
        for series in self.matching(select.matchers) {
            let inside: Vec<(i64, f64)> =
                series.samples.iter().filter(|(time, _)| select.range.contains(*time)).copied().collect();
            let used = match &select.windows {
                Some(windows) => used_samples(&inside, windows),
                None => inside,
            };
            let (timestamps, values): (Vec<i64>, Vec<f64>) = used.into_iter().unzip();
            count += values.len();
            if count > select.max_samples {
                return Err(SourceError::TooManySamples);
            }
            if !values.is_empty() {
                found.push(SeriesData { labels: series.labels.clone(), timestamps: timestamps.into(), values });
            }
        }
        Ok(found)
    }
}
