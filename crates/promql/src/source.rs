//! Where the evaluator's samples come from.

use std::sync::Arc;

use ers_model::{Labels, TimeRange};

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

/// One matcher of a selector. Regular expressions are anchored at both ends, `.` matches newlines, and they are compiled once, when made.
#[derive(Clone, Debug)]
pub struct LabelMatcher {
    pub name: Box<str>,
    pub op: MatchOp,
    pub value: Box<str>,
    regex: Option<Arc<regex::Regex>>,
}

impl PartialEq for LabelMatcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl LabelMatcher {
    /// Fails when the value is not a regular expression that we can run; the message is for the query's author.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, String> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let anchored = format!("^(?s:{value})$");
                let compiled = regex::RegexBuilder::new(&anchored)
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|error| format!("error parsing regexp: {error}"))?;
                Some(Arc::new(compiled))
            }
        };
        Ok(LabelMatcher { name: name.into(), op, value: value.into(), regex })
    }

    /// Whether a value matches; a label that a series does not have counts as the empty string.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => *self.value == *value,
            (MatchOp::NotEqual, _) => *self.value != *value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => false,
        }
    }

    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }
}

/// What the evaluator asks for: all series that match, with their samples in the range (both ends included).
#[derive(Clone, Debug)]
pub struct Select<'a> {
    pub matchers: &'a [LabelMatcher],
    pub range: TimeRange,
    /// Most samples that may be returned in all; over it the source answers [`SourceError::TooManySamples`].
    pub max_samples: usize,
    /// Which of the samples in the range will be used. A source may return more; a long range with a wide step is only
    /// affordable when it does not.
    pub windows: Option<SampleWindows>,
}

/// `count` windows `(end - length, end]`, whose ends lie `step_ms` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleWindows {
    pub first_end_ms: i64,
    pub step_ms: i64,
    pub length_ms: i64,
    pub count: usize,
    /// Of each window only the last sample is used, be it a stale marker or not.
    pub last_only: bool,
}

/// One series and its samples in time order. Stale markers are included.
#[derive(Clone, Debug)]
pub struct SeriesData {
    pub labels: Arc<Labels>,
    /// Series of one scrape share their times.
    pub timestamps: Arc<[i64]>,
    pub values: Vec<f64>,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    #[error("stored data could not be read: {0}")]
    Storage(String),
}

/// A store of series, as the evaluator sees it. The tenant and the principal's enforced matchers are already bound in the implementation.
pub trait SeriesSource: Send + Sync {
    /// Series in any order, without duplicates.
    fn select(&self, select: &Select<'_>) -> Result<Vec<SeriesData>, SourceError>;
}
