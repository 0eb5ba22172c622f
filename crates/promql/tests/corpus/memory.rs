//! A source of series in memory.

use std::sync::Arc;

use ers_model::Labels;
use ers_promql::{LabelMatcher, Select, SeriesData, SeriesSource, SourceError};

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

impl SeriesSource for Memory {
    fn select(&self, select: &Select<'_>) -> Result<Vec<SeriesData>, SourceError> {
        let mut found = Vec::new();
        let mut count = 0;
        for series in self.matching(select.matchers) {
            let inside = series.samples.iter().filter(|(time, _)| select.range.contains(*time));
            let (timestamps, values): (Vec<i64>, Vec<f64>) = inside.copied().unzip();
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
