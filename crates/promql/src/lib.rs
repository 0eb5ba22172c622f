//! PromQL: a parser with source positions and an evaluator over a [`SeriesSource`]. No I/O, no clock.

pub mod ast;
pub mod duration;
pub mod functions;
pub mod parser;
mod printer;
mod quote;
pub mod source;

pub use ast::{Expr, Span, ValueType};
pub use parser::{ParseError, parse, parse_selector};
pub use printer::format_float;
pub use quote::quote;
pub use source::{LabelMatcher, MatchOp, Select, SeriesData, SeriesSource, SourceError};
