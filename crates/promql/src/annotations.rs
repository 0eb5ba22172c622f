//! Remarks on a query that do not make it fail: warnings and infos, with the place that they are about.

use std::collections::BTreeMap;

use crate::ast::Span;
use crate::printer::format_general;
use crate::quote::quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Warning,
    Info,
}

/// What was repaired in a classic histogram, over all samples for which it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repair {
    pub min_time: i64,
    pub max_time: i64,
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_difference: f64,
    pub samples: usize,
}

impl Repair {
    fn merge(&mut self, other: Repair) {
        self.min_time = self.min_time.min(other.min_time);
        self.max_time = self.max_time.max(other.max_time);
        self.min_bucket = self.min_bucket.min(other.min_bucket);
        self.max_bucket = self.max_bucket.max(other.max_bucket);
        self.max_difference = self.max_difference.max(other.max_difference);
        self.samples += other.samples;
    }
}

#[derive(Clone, Debug)]
struct Remark {
    span: Span,
    repair: Option<Repair>,
}

/// A set of remarks; equal texts are kept once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations {
    remarks: BTreeMap<(Level, String), Remark>,
}

/// Remarks of a kind that a query's answer lists; the rest is counted.
const MAX_LISTED: usize = 10;

impl Annotations {
    fn add(&mut self, level: Level, text: String, span: Span, repair: Option<Repair>) {
        self.remarks
            .entry((level, text))
            .and_modify(|known| {
                if let (Some(known), Some(repair)) = (&mut known.repair, repair) {
                    known.merge(repair);
                }
            })
            .or_insert(Remark { span, repair });
    }

    fn warn(&mut self, text: String, span: Span) {
        self.add(Level::Warning, text, span, None);
    }

    fn info(&mut self, text: String, span: Span) {
        self.add(Level::Info, text, span, None);
    }

    pub fn invalid_quantile(&mut self, value: f64, span: Span) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", format_general(value)), span);
    }

    pub fn invalid_ratio(&mut self, value: f64, limit: f64, span: Span) {
        let (value, limit) = (format_general(value), format_general(limit));
        self.warn(format!("ratio value should be between -1 and 1, got {value}, capping to {limit}"), span);
    }

    pub fn bad_bucket_label(&mut self, metric: &str, label: &str, span: Span) {
        let label = quote(label.as_bytes());
        let text = format!("bucket label \"le\" is missing or has a malformed value of {label}");
        self.warn(with_metric(text, metric), span);
    }

    pub fn sort_in_range_query(&mut self, span: Span) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels".to_owned(), span);
    }

    pub fn possible_non_counter(&mut self, metric: &str, span: Span) {
        let metric = quote(metric.as_bytes());
        let text = format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric}");
        self.info(text, span);
    }

    pub fn possible_non_counter_label(&mut self, metric: &str, type_label: &str, span: Span) {
        let (metric, type_label) = (quote(metric.as_bytes()), quote(type_label.as_bytes()));
        let expected = "__type__ label is not set to \"counter\" or \"histogram\"";
        self.info(format!("metric might not be a counter, {expected}, got {type_label}: {metric}"), span);
    }

    pub fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, span: Span) {
        let text = format!(
            "incompatible sample types encountered for binary operator {operator:?}: {left} {operator} {right}"
        );
        self.info(text, span);
    }

    pub fn forced_monotonicity(&mut self, metric: &str, span: Span, repair: Repair) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.add(Level::Info, with_metric(text.to_owned(), metric), span, Some(repair));
    }

    /// Warnings and infos as the HTTP API shows them, in a fixed order.
    pub fn render(&self, query: &str) -> (Vec<String>, Vec<String>) {
        (self.render_level(Level::Warning, query), self.render_level(Level::Info, query))
    }

    fn render_level(&self, level: Level, query: &str) -> Vec<String> {
        let kind = if level == Level::Warning { "warning" } else { "info" };
        let mut lines: Vec<String> = self
            .remarks
            .iter()
            .filter(|((of, _), _)| *of == level)
            .map(|((_, text), remark)| {
                let position = remark.span.position(query);
                let details = remark.repair.map(|repair| describe(&repair)).unwrap_or_default();
                format!("PromQL {kind}: {text}{details} ({position})")
            })
            .collect();
        if lines.len() > MAX_LISTED {
            let omitted = lines.len() - MAX_LISTED;
            lines.truncate(MAX_LISTED);
            lines.push(format!("{omitted} more {kind} annotations omitted"));
        }
        lines
    }
}

fn with_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", quote(metric.as_bytes())) }
}

fn describe(repair: &Repair) -> String {
    format!(
        ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
        format_general(repair.min_bucket),
        format_general(repair.max_bucket),
        crate::printer::two_digits(repair.max_difference),
        repair.samples,
        crate::civil::rfc3339(repair.min_time),
        crate::civil::rfc3339(repair.max_time),
    )
}
