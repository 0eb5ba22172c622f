//! Prometheus' text format 0.0.4 and OpenMetrics 1.0: a parser that borrows from the body, and a writer.
//!
//! Formats: <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.
//!
//! - A sample is handed out with the bytes of its series as they stand in the body ([`SampleRef::series`]), so that a
//!   caller with a cache need not take labels apart again. Syntax is checked all the same.
//! - Limits are checked before anything grows: longest line, most labels of a series.
//! - An error says line and column, both from 1, the column in bytes.
//! - Arbitrary bytes never panic (a property test below).

mod parse;
mod write;

pub use parse::{Entry, Labels, Parser, SampleRef, parse_series};
pub use write::{Writer, format_value, write_label_value};

/// Which of the two formats a body is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`: timestamps are milliseconds.
    Text,
    /// `application/openmetrics-text`: timestamps are seconds, the body ends in `# EOF`.
    OpenMetrics,
}

impl Format {
    /// What a `Content-Type` stands for; anything but OpenMetrics is read as text, as Prometheus 2 does.
    pub fn from_content_type(content_type: &str) -> Format {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") { Format::OpenMetrics } else { Format::Text }
    }
}

/// The kind of a family, as its `# TYPE` line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    #[default]
    Untyped,
    Counter,
    Gauge,
    Histogram,
    Summary,
    GaugeHistogram,
    Info,
    StateSet,
}

impl Kind {
    /// The word in a `# TYPE` line of the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Untyped => "untyped",
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
            Kind::GaugeHistogram => "gaugehistogram",
            Kind::Info => "info",
            Kind::StateSet => "stateset",
        }
    }

    fn parse(word: &[u8]) -> Option<Kind> {
        Some(match word {
            b"untyped" | b"unknown" => Kind::Untyped,
            b"counter" => Kind::Counter,
            b"gauge" => Kind::Gauge,
            b"histogram" => Kind::Histogram,
            b"summary" => Kind::Summary,
            b"gaugehistogram" => Kind::GaugeHistogram,
            b"info" => Kind::Info,
            b"stateset" => Kind::StateSet,
            _ => return None,
        })
    }
}

/// Bounds that a body must keep to; over one, parsing stops with its name.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest line in bytes.
    pub max_line_bytes: usize,
    /// Most labels of one series, its name not counted.
    pub max_labels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_line_bytes: 64 * 1024, max_labels: 64 }
    }
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not valid UTF-8")]
    NotUtf8,
    #[error("expected a metric name")]
    ExpectedName,
    #[error("expected a label name")]
    ExpectedLabelName,
    #[error("expected '=' after the label name")]
    ExpectedEquals,
    #[error("expected a value in double quotes")]
    ExpectedQuote,
    #[error("the quoted value does not end on its line")]
    UnclosedQuote,
    #[error("unknown escape: only \\\\, \\\" and \\n are allowed")]
    BadEscape,
    #[error("expected ',' or '}}'")]
    ExpectedCommaOrBrace,
    #[error("the label occurs twice")]
    DuplicateLabel,
    #[error("expected a space before the value")]
    ExpectedSpace,
    #[error("expected a number")]
    BadValue,
    #[error("expected a timestamp")]
    BadTimestamp,
    #[error("unexpected text after the sample")]
    TrailingText,
    #[error("unknown metric type")]
    UnknownType,
    #[error("the last line has no line break")]
    NoFinalNewline,
    #[error("the body does not end in '# EOF'")]
    NoEof,
    #[error("text after '# EOF'")]
    AfterEof,
    #[error("blank lines are not allowed in OpenMetrics")]
    BlankLine,
    #[error("the line is longer than {0} bytes")]
    LineTooLong(usize),
    #[error("the series has more than {0} labels")]
    TooManyLabels(usize),
}

/// A problem and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct ParseError {
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    #[source]
    pub problem: Problem,
}

#[cfg(test)]
mod tests;
