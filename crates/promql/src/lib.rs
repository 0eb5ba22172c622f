//! PromQL: a parser with source positions and an evaluator over a [`SeriesSource`]. No I/O, no clock.

mod annotations;
pub mod ast;
mod civil;
pub mod duration;
mod engine;
mod eval;
pub mod functions;
pub mod parser;
mod printer;
mod quote;
pub mod source;

pub use ast::{Expr, Span, ValueType};
pub use engine::{Engine, InstantSample, Interrupt, Point, QueryError, QueryResult, QueryValue, Series, Stop};
pub use parser::{ParseError, parse, parse_selector};
pub use printer::format_float;
pub use quote::quote;
pub use source::{LabelMatcher, MatchOp, SampleWindows, Select, SeriesData, SeriesSource, SourceError};
