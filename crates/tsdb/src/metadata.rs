//! Type, help and unit of each metric family, bounded.

use std::collections::BTreeMap;

use ers_wire::remote_write::{Metadata, MetricType};

use crate::stats::MetadataEntry;

/// Longest help or unit that is kept; the rest is cut off.
const MAX_TEXT_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct MetadataStore {
    entries: BTreeMap<Box<str>, Entry>,
    /// Differs from what was last written to disk.
    pub dirty: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: MetricType,
    help: Box<str>,
    unit: Box<str>,
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl MetadataStore {
    /// The newest word on a metric wins. Beyond `max` families new ones are not taken up.
    pub fn put(&mut self, metadata: &Metadata<'_>, max: usize, max_name_bytes: usize) {
        let Metadata { metric, kind, help, unit } = *metadata;
        if metric.is_empty() || metric.len() > max_name_bytes {
            return;
        }
        let (help, unit) = (cut(help, MAX_TEXT_BYTES), cut(unit, MAX_TEXT_BYTES));
        let full = self.entries.len() >= max;
        match self.entries.get_mut(metric) {
            Some(held) if held.kind == kind && *held.help == *help && *held.unit == *unit => {}
            Some(held) => {
                *held = Entry { kind, help: help.into(), unit: unit.into() };
                self.dirty = true;
            }
            None if full => {}
            None => {
                self.entries.insert(metric.into(), Entry { kind, help: help.into(), unit: unit.into() });
                self.dirty = true;
            }
        }
    }

    pub fn list(&self, metric: Option<&str>, limit: usize) -> Vec<MetadataEntry> {
        let entry = |metric: &str, entry: &Entry| MetadataEntry {
            metric: metric.to_string(),
            kind: entry.kind,
            help: entry.help.to_string(),
            unit: entry.unit.to_string(),
        };
        match metric {
            Some(metric) => self.entries.get(metric).map(|held| entry(metric, held)).into_iter().take(limit).collect(),
            None => self.entries.iter().map(|(metric, held)| entry(metric, held)).take(limit).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
