//! Functions of instant vectors and scalars.

use std::cmp::Ordering;
use std::sync::Arc;

use ers_model::{Labels, METRIC_NAME};

use crate::ast::{Call, Node, NodeKind, Span};
use crate::engine::QueryError;
use crate::functions::FunctionId;
use crate::source::{LabelMatcher, MatchOp};

use super::column::{ABSENT, Column, ScalarColumn, Value, is_absent};
use super::quantile::nan_first;
use super::selector::look_up;
use super::{Evaluation, Grid, dates, labels};

/// Go's `math.Max`: NaN wins, and zero is larger than minus zero.
pub(super) fn go_max(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.max(right) }
}

/// Go's `math.Min`: NaN wins.
pub(super) fn go_min(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.min(right) }
}

impl Evaluation<'_> {
    pub(super) fn vector_function(&mut self, call: &Call, span: Span, grid: Grid) -> Result<Value, QueryError> {
        let id = call.function.id;
        if let Some(function) = simple(id) {
            let columns = self.vector(&call.args[0], grid)?;
            return Ok(Value::Vector(map(columns, |_, value| function(value))));
        }
        if let Some(part) = dates::part(id) {
            return self.calendar(call, part, grid);
        }
        match id {
            FunctionId::Pi => Ok(Value::Scalar(ScalarColumn::Constant(std::f64::consts::PI))),
            FunctionId::Time => {
                self.charge(grid.count)?;
                Ok(Value::Scalar(ScalarColumn::Steps(grid.times().map(|time| time as f64 / 1000.0).collect())))
            }
            FunctionId::MaxOf | FunctionId::MinOf => {
                let (left, right) = (self.scalar(&call.args[0], grid)?, self.scalar(&call.args[1], grid)?);
                Ok(Value::Scalar(left.zip(right, if id == FunctionId::MaxOf { go_max } else { go_min })))
            }
            FunctionId::Scalar => {
                let columns = self.vector(&call.args[0], grid)?;
                self.charge(grid.count)?;
                Ok(Value::Scalar(ScalarColumn::Steps(only_values(&columns, grid))))
            }
            FunctionId::Vector => {
                let scalar = self.scalar(&call.args[0], grid)?;
                self.charge(grid.count)?;
                let values = (0..grid.count).map(|step| scalar.at(step)).collect();
                Ok(Value::Vector(vec![Column { labels: Arc::new(Labels::default()), drop_name: false, values }]))
            }
            FunctionId::Absent => self.absent(&call.args[0], grid).map(Value::Vector),
            FunctionId::Timestamp => self.timestamp(&call.args[0], grid).map(Value::Vector),
            // The store keeps no start times of samples yet, so that nothing is known of them.
            FunctionId::StartTimestamp => {
                self.vector(&call.args[0], grid)?;
                Ok(Value::Vector(Vec::new()))
            }
            FunctionId::Round => {
                let columns = self.vector(&call.args[0], grid)?;
                let to = match call.args.get(1) {
                    Some(to) => self.scalar(to, grid)?,
                    None => ScalarColumn::Constant(1.0),
                };
                Ok(Value::Vector(map(columns, |step, value| {
                    let inverse = 1.0 / to.at(step);
                    (value * inverse + 0.5).floor() / inverse
                })))
            }
            FunctionId::Clamp | FunctionId::ClampMin | FunctionId::ClampMax => self.clamp(call, grid),
            FunctionId::Sort | FunctionId::SortDesc | FunctionId::SortByLabel | FunctionId::SortByLabelDesc => {
                self.sort(call, span, grid)
            }
            FunctionId::HistogramQuantile | FunctionId::HistogramQuantiles | FunctionId::HistogramFraction => {
                self.histogram_function(call, grid).map(Value::Vector)
            }
            // These look at native histograms only, which no series has yet.
            FunctionId::HistogramAvg
            | FunctionId::HistogramCount
            | FunctionId::HistogramSum
            | FunctionId::HistogramStddev
            | FunctionId::HistogramStdvar => {
                self.vector(&call.args[0], grid)?;
                Ok(Value::Vector(Vec::new()))
            }
            _ => Err(QueryError::Execution(format!("function {:?} is not known here", call.function.name))),
        }
    }

    fn calendar(&mut self, call: &Call, part: fn(crate::civil::Civil) -> f64, grid: Grid) -> Result<Value, QueryError> {
        let Some(arg) = call.args.first() else {
            self.charge(grid.count)?;
            let values = grid.times().map(|time| part(dates::moment(time.div_euclid(1000) as f64))).collect();
            return Ok(Value::Vector(vec![Column { labels: Arc::new(Labels::default()), drop_name: false, values }]));
        };
        let columns = self.vector(arg, grid)?;
        Ok(Value::Vector(map(columns, |_, value| part(dates::moment(value)))))
    }

    fn clamp(&mut self, call: &Call, grid: Grid) -> Result<Value, QueryError> {
        let columns = self.vector(&call.args[0], grid)?;
        let first = self.scalar(&call.args[1], grid)?;
        let (low, high) = match call.function.id {
            FunctionId::ClampMin => (first, ScalarColumn::Constant(f64::INFINITY)),
            FunctionId::ClampMax => (ScalarColumn::Constant(f64::NEG_INFINITY), first),
            _ => (first, self.scalar(&call.args[2], grid)?),
        };
        Ok(Value::Vector(map(columns, |step, value| {
            let (low, high) = (low.at(step), high.at(step));
            if high < low { ABSENT } else { go_max(low, go_min(high, value)) }
        })))
    }

    /// One where the vector is empty, with the labels that its selector fixes.
    fn absent(&mut self, arg: &Node, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let columns = self.vector(arg, grid)?;
        self.charge(grid.count)?;
        let mut values = vec![1.0; grid.count];
        for column in &columns {
            for (into, value) in values.iter_mut().zip(&column.values) {
                if !is_absent(*value) {
                    *into = ABSENT;
                }
            }
        }
        let column = Column { labels: Arc::new(absent_labels(arg)), drop_name: false, values };
        Ok(if column.is_empty() { Vec::new() } else { vec![column] })
    }

    /// The time of each sample that a selector finds; of anything else the time of the step.
    fn timestamp(&mut self, arg: &Node, grid: Grid) -> Result<Vec<Column>, QueryError> {
        if let NodeKind::Vector(selector) = &arg.unwrap_parens().kind {
            let frame = self.lookback_frame(selector, grid)?;
            let series = self.fetch_frame(&selector.matchers, &frame, (0, 0), true)?;
            self.charge_columns(series.len(), grid)?;
            let columns = self.per_series(&series, |one| {
                let mut values = vec![ABSENT; grid.count];
                look_up(&one.timestamps, &one.values, &frame, |step, sample| {
                    values[step] = one.timestamps[sample] as f64 / 1000.0;
                });
                Column { labels: one.labels.clone(), drop_name: true, values }
            })?;
            return Ok(columns.into_iter().filter(|column| !column.is_empty()).collect());
        }
        let columns = self.vector(arg, grid)?;
        Ok(map(columns, |step, _| grid.time(step) as f64 / 1000.0))
    }

    fn sort(&mut self, call: &Call, span: Span, grid: Grid) -> Result<Value, QueryError> {
        let mut columns = self.vector(&call.args[0], grid)?;
        if self.step != 0 {
            self.annotations.sort_in_range_query(span);
        }
        if grid.count > 1 {
            return Ok(Value::Vector(columns));
        }
        columns.retain(|column| !is_absent(column.values[0]));
        let names: Vec<String> = call.args[1..].iter().map(labels::string_arg).collect::<Result<_, _>>()?;
        let by_labels = |left: &Column, right: &Column| {
            for name in &names {
                let (left, right) = (left.labels.get(name).unwrap_or(""), right.labels.get(name).unwrap_or(""));
                if left != right {
                    return if natural_less(left, right) { Ordering::Less } else { Ordering::Greater };
                }
            }
            left.labels.cmp(&right.labels)
        };
        match call.function.id {
            FunctionId::Sort => columns.sort_by(|left, right| nan_last(left.values[0], right.values[0], false)),
            FunctionId::SortDesc => columns.sort_by(|left, right| nan_last(left.values[0], right.values[0], true)),
            FunctionId::SortByLabel => columns.sort_by(by_labels),
            _ => columns.sort_by(|left, right| by_labels(right, left)),
        }
        Ok(Value::Vector(columns))
    }
}

/// NaN comes last in either direction.
fn nan_last(left: f64, right: f64, descending: bool) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (false, false) if descending => nan_first(right, left),
        (false, false) => nan_first(left, right),
        (left_nan, right_nan) => left_nan.cmp(&right_nan),
    }
}

/// Functions of one number.
fn simple(id: FunctionId) -> Option<fn(f64) -> f64> {
    let function: fn(f64) -> f64 = match id {
        FunctionId::Abs => f64::abs,
        FunctionId::Ceil => f64::ceil,
        FunctionId::Floor => f64::floor,
        FunctionId::Exp => f64::exp,
        FunctionId::Sqrt => f64::sqrt,
        FunctionId::Ln => f64::ln,
        FunctionId::Log2 => f64::log2,
        FunctionId::Log10 => f64::log10,
        FunctionId::Sin => f64::sin,
        FunctionId::Cos => f64::cos,
        FunctionId::Tan => f64::tan,
        FunctionId::Asin => f64::asin,
        FunctionId::Acos => f64::acos,
        FunctionId::Atan => f64::atan,
        FunctionId::Sinh => f64::sinh,
        FunctionId::Cosh => f64::cosh,
        FunctionId::Tanh => f64::tanh,
        FunctionId::Asinh => f64::asinh,
        FunctionId::Acosh => f64::acosh,
        FunctionId::Atanh => f64::atanh,
        FunctionId::Deg => |value| value * 180.0 / std::f64::consts::PI,
        FunctionId::Rad => |value| value * std::f64::consts::PI / 180.0,
        FunctionId::Sgn => |value| {
            if value < 0.0 {
                -1.0
            } else if value > 0.0 {
                1.0
            } else {
                value
            }
        },
        _ => return None,
    };
    Some(function)
}

/// Applies to each value with its step; the result has no name.
fn map(mut columns: Vec<Column>, call: impl Fn(usize, f64) -> f64) -> Vec<Column> {
    for column in &mut columns {
        column.drop_name = true;
        for (step, value) in column.values.iter_mut().enumerate() {
            if !is_absent(*value) {
                *value = call(step, *value);
            }
        }
    }
    columns
}

/// The value of the only series at each step; NaN where there is none or more than one.
fn only_values(columns: &[Column], grid: Grid) -> Vec<f64> {
    let mut values = vec![f64::NAN; grid.count];
    let mut found = vec![false; grid.count];
    for column in columns {
        for (step, value) in column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            values[step] = if found[step] { f64::NAN } else { *value };
            found[step] = true;
        }
    }
    values
}

/// Labels that a selector fixes by exactly one equality.
pub(super) fn absent_labels(arg: &Node) -> Labels {
    let matchers: &[LabelMatcher] = match &arg.unwrap_parens().kind {
        NodeKind::Vector(selector) => &selector.matchers,
        NodeKind::Matrix(matrix) => &matrix.selector.matchers,
        _ => &[],
    };
    let mut labels = Labels::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| &*matcher.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&&*matcher.name) {
            labels.set(matcher.name.clone(), matcher.value.clone());
            seen.push(&matcher.name);
        } else {
            labels.remove(&matcher.name);
        }
    }
    labels
}

/// Order in which runs of digits compare as numbers, as in facette/natsort, which Prometheus uses.
fn natural_less(left: &str, right: &str) -> bool {
    let (left, right) = (chunks(left), chunks(right));
    for (at, chunk) in left.iter().enumerate() {
        let Some(other) = right.get(at) else { return false };
        let numbers = (chunk.parse::<i64>(), other.parse::<i64>());
        let equal = match numbers {
            (Ok(number), Ok(other)) if number != other => return number < other,
            (Ok(_), Ok(_)) => true,
            _ => chunk == other,
        };
        if !equal {
            return chunk < other;
        }
        if at + 1 == left.len() {
            return true;
        }
        if at + 1 == right.len() {
            return false;
        }
    }
    false
}

fn chunks(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        found.push(&rest[..end]);
        rest = &rest[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_sort_as_numbers() {
        assert!(natural_less("node-2", "node-10"));
        assert!(!natural_less("node-10", "node-2"));
        assert!(natural_less("a", "b"));
    }

    #[test]
    fn nan_wins_as_in_go() {
        assert!(go_max(f64::NAN, 1.0).is_nan() && go_min(1.0, f64::NAN).is_nan());
        assert_eq!((go_max(1.0, 2.0), go_min(1.0, 2.0)), (2.0, 1.0));
    }
}
