//! Prometheus remote write 1.0: a snappy-compressed (block format) protobuf `WriteRequest`.
//!
//! ```text
//! WriteRequest   { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3 }
//! TimeSeries     { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3; repeated Histogram histograms = 4 }
//! Label          { string name = 1; string value = 2 }
//! Sample         { double value = 1; int64 timestamp = 2 }
//! MetricMetadata { enum type = 1; string metric_family_name = 2; string help = 4; string unit = 5 }
//! ```
//!
//! Decoding walks the bytes and lends slices of them: no allocation per series, label or sample. Unknown fields are skipped, as protobuf asks.
//! Exemplars and native histograms are counted, not read. Limits are checked before memory is taken.

mod decode;
mod encode;
mod proto;
#[cfg(test)]
mod tests;

pub use decode::{Item, Items, LabelsIter, SamplesIter, Series, decode_request, decode_series, decompress};
pub use encode::{Encoder, TimeSeries, encode};

/// Content headers of a remote write 1.0 request.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
pub const CONTENT_ENCODING: &str = "snappy";
pub const VERSION_HEADER: &str = "X-Prometheus-Remote-Write-Version";
pub const VERSION: &str = "0.1.0";

/// Why a body cannot be read. Offsets count bytes of the decompressed body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("body would be {bytes} bytes decompressed, over the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("body is not a snappy block: {0}")]
    Snappy(String),
    #[error("malformed protobuf at byte {offset}: {what}")]
    Malformed { offset: usize, what: &'static str },
    #[error("text at byte {offset} is not UTF-8")]
    NotUtf8 { offset: usize },
}

/// What a metric is. Values as in `MetricMetadata.MetricType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    Stateset,
}

impl MetricType {
    /// Numbers that are not known are `Unknown`.
    pub fn from_number(number: u64) -> Self {
        match number {
            1 => MetricType::Counter,
            2 => MetricType::Gauge,
            3 => MetricType::Histogram,
            4 => MetricType::GaugeHistogram,
            5 => MetricType::Summary,
            6 => MetricType::Info,
            7 => MetricType::Stateset,
            _ => MetricType::Unknown,
        }
    }

    pub fn number(self) -> u8 {
        match self {
            MetricType::Unknown => 0,
            MetricType::Counter => 1,
            MetricType::Gauge => 2,
            MetricType::Histogram => 3,
            MetricType::GaugeHistogram => 4,
            MetricType::Summary => 5,
            MetricType::Info => 6,
            MetricType::Stateset => 7,
        }
    }

    /// As `/api/v1/metadata` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Unknown => "unknown",
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::GaugeHistogram => "gaugehistogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::Stateset => "stateset",
        }
    }
}

/// Type, help and unit of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    pub metric: &'a str,
    pub kind: MetricType,
    pub help: &'a str,
    pub unit: &'a str,
}
