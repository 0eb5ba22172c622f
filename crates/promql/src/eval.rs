//! The evaluator: walks the tree once, and computes every node for all steps at a time.

mod aggregate;
mod binary;
mod column;
mod dates;
mod durations;
mod extended;
mod histogram;
mod info;
mod kahan;
mod kernels;
mod labels;
mod matching;
mod quantile;
mod range_functions;
mod selector;
mod topk;
mod vector_functions;
mod windows;

use std::sync::Arc;

use ers_model::Labels;

use crate::annotations::Annotations;
use crate::ast::{Call, Expr, Node, NodeKind, Span, ValueType};
use crate::engine::{Engine, InstantSample, Point, QueryError, QueryValue, Series, Stop};
use crate::functions::FunctionId;
use crate::source::{LabelMatcher, SeriesSource};

use column::{Column, RawSeries, ScalarColumn, Value, is_absent, remove_names};
use selector::Fetched;

/// The steps that are computed, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub start: i64,
    pub step: i64,
    pub count: usize,
}

impl Grid {
    /// All steps from `start` that are not after `end`; none when the end lies before the start.
    pub fn new(start: i64, end: i64, step: i64) -> Self {
        let step = step.max(1);
        let count = if end < start { 0 } else { usize::try_from((end - start) / step).unwrap_or(usize::MAX - 1) + 1 };
        Grid { start, step, count }
    }

    pub fn single(at: i64) -> Self {
        Grid { start: at, step: 1, count: 1 }
    }

    pub fn time(&self, step: usize) -> i64 {
        self.start + self.step * step as i64
    }

    pub fn steps(&self) -> std::ops::Range<usize> {
        0..self.count
    }

    pub fn times(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |step| self.time(step))
    }
}

/// One run of a query.
pub(crate) struct Evaluation<'a> {
    engine: &'a Engine,
    source: &'a dyn SeriesSource,
    pub annotations: Annotations,
    /// Bounds of the whole query: what `start()`, `end()`, `range()` and `step()` say, inside of subqueries too.
    start: i64,
    end: i64,
    /// Zero for an instant query.
    step: i64,
    /// Samples in memory.
    samples: usize,
    fetched: Fetched,
    enforced: &'a [LabelMatcher],
}

impl<'a> Evaluation<'a> {
    pub fn new(
        engine: &'a Engine,
        source: &'a dyn SeriesSource,
        expr: &'a Expr,
        start: i64,
        end: i64,
        step: i64,
    ) -> Self {
        Evaluation {
            engine,
            source,
            annotations: Annotations::default(),
            start,
            end,
            step,
            samples: 0,
            fetched: Fetched::new(expr),
            enforced: &expr.enforced,
        }
    }

    /// Accounts for samples before they are allocated.
    fn charge(&mut self, samples: usize) -> Result<(), QueryError> {
        self.samples = self.samples.saturating_add(samples);
        if self.samples > self.engine.max_samples { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    fn charge_columns(&mut self, columns: usize, grid: Grid) -> Result<(), QueryError> {
        self.charge(columns.saturating_mul(grid.count))
    }

    fn release(&mut self, samples: usize) {
        self.samples = self.samples.saturating_sub(samples);
    }

    fn check_interrupt(&self) -> Result<(), QueryError> {
        match self.engine.interrupt.as_ref().and_then(|asked| asked()) {
            None => Ok(()),
            Some(Stop::Timeout) => Err(QueryError::Timeout),
            Some(Stop::Cancelled) => Err(QueryError::Cancelled),
        }
    }

    fn eval(&mut self, node: &Node, grid: Grid) -> Result<Value, QueryError> {
        self.check_interrupt()?;
        if grid.count == 0 {
            return Ok(empty(node.value_type()));
        }
        if grid.count > 1 && worth_hoisting(node) && is_invariant(node) {
            let value = self.eval_node(node, Grid::single(grid.start))?;
            return self.repeat(value, grid);
        }
        self.eval_node(node, grid)
    }

    fn eval_node(&mut self, node: &Node, grid: Grid) -> Result<Value, QueryError> {
        match &node.kind {
            NodeKind::Number(number) => Ok(Value::Scalar(ScalarColumn::Constant(number.value))),
            NodeKind::String(literal) => Ok(Value::String(literal.bytes.clone())),
            NodeKind::Paren(inner) => self.eval(inner, grid),
            NodeKind::Vector(selector) => self.instant_selector(selector, grid).map(Value::Vector),
            NodeKind::Matrix(matrix) => self.matrix_selector(matrix, grid).map(Value::Matrix),
            NodeKind::Subquery(subquery) => self.subquery(subquery, grid).map(Value::Matrix),
            NodeKind::Unary(unary) => {
                let value = self.eval(&unary.expr, grid)?;
                Ok(if unary.negative { negate(value) } else { value })
            }
            NodeKind::Binary(binary) => self.binary(binary, node.span, grid),
            NodeKind::Aggregate(aggregate) => self.aggregate(aggregate, grid).map(Value::Vector),
            NodeKind::Call(call) => self.call(call, node.span, grid),
        }
    }

    /// The value of a step-invariant part at all steps.
    fn repeat(&mut self, value: Value, grid: Grid) -> Result<Value, QueryError> {
        let value = match value {
            Value::Scalar(scalar) => Value::Scalar(ScalarColumn::Constant(scalar.at(0))),
            Value::Vector(mut columns) => {
                self.charge_columns(columns.len(), grid)?;
                for column in &mut columns {
                    column.values.resize(grid.count, column.values[0]);
                }
                Value::Vector(columns)
            }
            other => other,
        };
        Ok(value)
    }

    fn vector(&mut self, node: &Node, grid: Grid) -> Result<Vec<Column>, QueryError> {
        match self.eval(node, grid)? {
            Value::Vector(columns) => Ok(columns),
            _ => Err(unexpected_type(node, ValueType::Vector)),
        }
    }

    fn scalar(&mut self, node: &Node, grid: Grid) -> Result<ScalarColumn, QueryError> {
        match self.eval(node, grid)? {
            Value::Scalar(scalar) => Ok(scalar),
            _ => Err(unexpected_type(node, ValueType::Scalar)),
        }
    }

    fn call(&mut self, call: &Call, span: Span, grid: Grid) -> Result<Value, QueryError> {
        let seconds = |millis: i64| Ok(Value::Scalar(ScalarColumn::Constant(millis as f64 / 1000.0)));
        match call.function.id {
            FunctionId::Start => seconds(self.start),
            FunctionId::End => seconds(self.end),
            FunctionId::Range => seconds(self.end - self.start),
            FunctionId::Step => seconds(self.step),
            FunctionId::LabelReplace => self.label_replace(call, grid).map(Value::Vector),
            FunctionId::LabelJoin => self.label_join(call, grid).map(Value::Vector),
            FunctionId::Info => self.info(call, grid).map(Value::Vector),
            _ if call.function.args.contains(&ValueType::Matrix) => self.range_function(call, grid).map(Value::Vector),
            _ => self.vector_function(call, span, grid),
        }
    }
}

/// The type check has made sure of types; this keeps a gap in it from becoming a wrong answer.
fn unexpected_type(node: &Node, want: ValueType) -> QueryError {
    QueryError::Execution(format!("expected type {} for {node}", want.documented()))
}

fn empty(value_type: ValueType) -> Value {
    match value_type {
        ValueType::Scalar => Value::Scalar(ScalarColumn::Constant(f64::NAN)),
        ValueType::Vector => Value::Vector(Vec::new()),
        ValueType::Matrix => Value::Matrix(Vec::new()),
        ValueType::String => Value::String(Box::default()),
    }
}

fn negate(value: Value) -> Value {
    match value {
        Value::Scalar(scalar) => Value::Scalar(scalar.map(|value| -value)),
        Value::Vector(mut columns) => {
            for column in &mut columns {
                column.drop_name = true;
                column.values.iter_mut().filter(|value| !is_absent(**value)).for_each(|value| *value = -*value);
            }
            Value::Vector(columns)
        }
        other => other,
    }
}

/// Literals cost nothing, and ranges have times of their own.
fn worth_hoisting(node: &Node) -> bool {
    !matches!(
        node.kind,
        NodeKind::Number(_) | NodeKind::String(_) | NodeKind::Matrix(_) | NodeKind::Subquery(_) | NodeKind::Paren(_)
    )
}

/// Whether a node has the same value at every step.
fn is_invariant(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Number(_) | NodeKind::String(_) => true,
        NodeKind::Paren(inner) => is_invariant(inner),
        NodeKind::Unary(unary) => is_invariant(&unary.expr),
        NodeKind::Vector(selector) => selector.timing.at.is_some(),
        NodeKind::Matrix(matrix) => matrix.selector.timing.at.is_some(),
        NodeKind::Subquery(subquery) => subquery.timing.at.is_some(),
        NodeKind::Binary(binary) => is_invariant(&binary.lhs) && is_invariant(&binary.rhs),
        NodeKind::Aggregate(aggregate) => {
            is_invariant(&aggregate.expr) && aggregate.param.as_ref().is_none_or(is_invariant)
        }
        NodeKind::Call(call) => {
            let of_time = match call.function.id {
                FunctionId::DaysInMonth
                | FunctionId::DayOfMonth
                | FunctionId::DayOfWeek
                | FunctionId::DayOfYear
                | FunctionId::Hour
                | FunctionId::Minute
                | FunctionId::Month
                | FunctionId::Year => call.args.is_empty(),
                FunctionId::PredictLinear | FunctionId::Time => true,
                FunctionId::Timestamp => {
                    !call.args.iter().all(|arg| matches!(arg.unwrap_parens().kind, NodeKind::Vector(_)))
                }
                _ => false,
            };
            !of_time && call.args.iter().all(is_invariant)
        }
    }
}

pub(crate) fn instant(evaluation: &mut Evaluation<'_>, expr: &Expr, at: i64) -> Result<QueryValue, QueryError> {
    durations::check(evaluation, expr)?;
    Ok(match evaluation.eval(&expr.root, Grid::single(at))? {
        Value::Scalar(scalar) => QueryValue::Scalar(Point { timestamp_ms: at, value: scalar.at(0) }),
        Value::String(bytes) => {
            QueryValue::String { timestamp_ms: at, value: String::from_utf8_lossy(&bytes).into_owned() }
        }
        Value::Vector(mut columns) => {
            columns.retain(|column| !is_absent(column.values[0]));
            let samples = remove_names(columns)?
                .into_iter()
                .map(|column| InstantSample { labels: column.labels, value: column.values[0] })
                .collect();
            QueryValue::Vector { timestamp_ms: at, samples }
        }
        Value::Matrix(series) => QueryValue::Matrix(matrix(series)?),
    })
}

pub(crate) fn range(
    evaluation: &mut Evaluation<'_>,
    expr: &Expr,
    start: i64,
    end: i64,
    step: i64,
) -> Result<QueryValue, QueryError> {
    durations::check(evaluation, expr)?;
    let grid = Grid::new(start, end, step);
    evaluation.charge(grid.count)?;
    let columns = match evaluation.eval(&expr.root, grid)? {
        Value::Scalar(scalar) => {
            let values = (0..grid.count).map(|at| scalar.at(at)).collect();
            vec![Column { labels: Arc::new(Labels::default()), drop_name: false, values }]
        }
        Value::Vector(columns) => remove_names(columns)?,
        Value::Matrix(_) | Value::String(_) => return Err(unexpected_type(&expr.root, ValueType::Vector)),
    };
    let mut series: Vec<Series> = columns
        .into_iter()
        .map(|column| {
            let floats = column
                .values
                .iter()
                .zip(grid.times())
                .filter(|(value, _)| !is_absent(**value))
                .map(|(value, timestamp_ms)| Point { timestamp_ms, value: *value })
                .collect();
            Series { labels: column.labels, floats }
        })
        .filter(|series: &Series| !series.floats.is_empty())
        .collect();
    series.sort_by(|left, right| left.labels.cmp(&right.labels));
    Ok(QueryValue::Matrix(series))
}

/// A matrix as the result of an instant query.
fn matrix(raw: Vec<RawSeries>) -> Result<Vec<Series>, QueryError> {
    let mut result: Vec<Series> = Vec::with_capacity(raw.len());
    let mut renamed = false;
    for series in raw {
        let labels = if series.drop_name {
            renamed = true;
            Arc::new(column::without_metadata(&series.labels))
        } else {
            series.labels
        };
        let floats = series.timestamps.iter().zip(&series.values);
        let floats = floats.map(|(timestamp_ms, value)| Point { timestamp_ms: *timestamp_ms, value: *value });
        result.push(Series { labels, floats: floats.collect() });
    }
    result.sort_by(|left, right| left.labels.cmp(&right.labels));
    if renamed {
        let mut merged: Vec<Series> = Vec::with_capacity(result.len());
        for series in result {
            match merged.last_mut() {
                Some(last) if last.labels == series.labels => last.floats.extend(series.floats),
                _ => merged.push(series),
            }
        }
        for series in &mut merged {
            series.floats.sort_by_key(|point| point.timestamp_ms);
            if series.floats.windows(2).any(|pair| pair[0].timestamp_ms == pair[1].timestamp_ms) {
                return Err(column::duplicate_labels());
            }
        }
        result = merged;
    }
    Ok(result)
}
