//! PromQL: a parser with source positions and an evaluator over a [`SeriesSource`]. No I/O, no clock.

pub mod source;

pub use source::{LabelMatcher, MatchOp, Select, SeriesData, SeriesSource, SourceError};
