//! What callers use: limits and settings, and the two ways to run a query.

use std::sync::Arc;

use ers_model::Labels;

use crate::annotations::Annotations;
use crate::ast::{Expr, ValueType};
use crate::eval::{self, Evaluation};
use crate::parser::MAX_TIME_MS;
use crate::source::{SeriesSource, SourceError};

/// Why a running query must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Timeout,
    Cancelled,
}

/// Asked again and again while a query runs; must be cheap.
pub type Interrupt = Arc<dyn Fn() -> Option<Stop> + Send + Sync>;

/// Settings and limits of queries. Cheap to clone, so that each query can have its own [`Interrupt`].
#[derive(Clone)]
pub struct Engine {
    /// How far back an instant selector looks for a sample. Prometheus: 5 minutes.
    pub lookback_ms: i64,
    /// Most samples that one query may hold in memory.
    pub max_samples: usize,
    /// Resolution of a subquery that states none. Prometheus: the global evaluation interval, 1 minute.
    pub default_subquery_step_ms: i64,
    /// Judge whether a metric is a counter by its `__type__` label rather than by its name.
    pub type_and_unit_labels: bool,
    pub interrupt: Option<Interrupt>,
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            lookback_ms: 300_000,
            max_samples: 50_000_000,
            default_subquery_step_ms: 60_000,
            type_and_unit_labels: false,
            interrupt: None,
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("lookback_ms", &self.lookback_ms)
            .field("max_samples", &self.max_samples)
            .field("default_subquery_step_ms", &self.default_subquery_step_ms)
            .field("type_and_unit_labels", &self.type_and_unit_labels)
            .finish_non_exhaustive()
    }
}

/// Messages are those of Prometheus.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0}")]
    Execution(String),
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    #[error("query timed out in expression evaluation")]
    Timeout,
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    #[error("expanding series: {0}")]
    Source(#[source] SourceError),
}

/// A value at a time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub timestamp_ms: i64,
    pub value: f64,
}

/// One series of an instant vector.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstantSample {
    pub labels: Arc<Labels>,
    pub value: f64,
}

/// One series of a matrix, its points in time order. Native histograms will lie beside the floats.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Series {
    pub labels: Arc<Labels>,
    pub floats: Vec<Point>,
}

#[derive(Clone, Debug)]
pub enum QueryValue {
    Scalar(Point),
    String {
        timestamp_ms: i64,
        value: String,
    },
    /// In the order that the query asked for (`sort`, `topk`), else by no particular rule.
    Vector {
        timestamp_ms: i64,
        samples: Vec<InstantSample>,
    },
    /// Ordered by labels.
    Matrix(Vec<Series>),
}

#[derive(Clone, Debug)]
pub struct QueryResult {
    pub value: QueryValue,
    /// With positions, as the HTTP API shows them.
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

impl QueryResult {
    fn new(expr: &Expr, value: QueryValue, annotations: &Annotations) -> Self {
        let (warnings, infos) = annotations.render(expr.text());
        QueryResult { value, warnings, infos }
    }
}

impl Engine {
    /// Evaluates at one time.
    pub fn instant(&self, expr: &Expr, source: &dyn SeriesSource, at_ms: i64) -> Result<QueryResult, QueryError> {
        check_times(&[at_ms])?;
        let mut evaluation = Evaluation::new(self, source, expr, at_ms, at_ms, 0);
        let value = eval::instant(&mut evaluation, expr, at_ms)?;
        Ok(QueryResult::new(expr, value, &evaluation.annotations))
    }

    /// Evaluates at `start`, `start + step`, … up to `end`; always gives a matrix.
    pub fn range(
        &self,
        expr: &Expr,
        source: &dyn SeriesSource,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<QueryResult, QueryError> {
        if step_ms <= 0 {
            let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(QueryError::Execution(message.to_owned()));
        }
        check_times(&[start_ms, end_ms])?;
        if end_ms < start_ms {
            return Err(QueryError::Execution("end timestamp must not be before start time".to_owned()));
        }
        let value_type = expr.value_type();
        if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
            let message = format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                value_type.documented()
            );
            return Err(QueryError::Execution(message));
        }
        let mut evaluation = Evaluation::new(self, source, expr, start_ms, end_ms, step_ms);
        let value = eval::range(&mut evaluation, expr, start_ms, end_ms, step_ms)?;
        Ok(QueryResult::new(expr, value, &evaluation.annotations))
    }
}

fn check_times(times: &[i64]) -> Result<(), QueryError> {
    match times.iter().find(|time| time.abs_diff(0) > MAX_TIME_MS.unsigned_abs()) {
        None => Ok(()),
        Some(time) => {
            let message = format!("timestamp {time} is further than {MAX_TIME_MS} milliseconds from the epoch");
            Err(QueryError::Execution(message))
        }
    }
}
