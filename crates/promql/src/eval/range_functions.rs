//! Functions over ranges: chooses a kernel, and runs it for each series.

use std::sync::Arc;

use crate::ast::{Call, Node, NodeKind, RangeExtension};
use crate::engine::QueryError;
use crate::functions::FunctionId;

use super::column::{ABSENT, Column, RawSeries, ScalarColumn, is_absent};
use super::kernels::{self, Kernel, Series};
use super::vector_functions::absent_labels;
use super::windows::{Frame, WindowCache};
use super::{Evaluation, Grid, extended};

impl Evaluation<'_> {
    pub(super) fn range_function(&mut self, call: &Call, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let Some(arg) = call.args.iter().map(Node::unwrap_parens).find(|arg| is_range(arg)) else {
            return Err(QueryError::Execution(format!("{} without a range", call.function.name)));
        };
        let mut scalars = Vec::new();
        for other in call.args.iter().map(Node::unwrap_parens).filter(|other| !is_range(other)) {
            scalars.push((self.scalar(other, grid)?, other.span));
        }
        let extension = extension(arg);
        check_extension(call, extension)?;
        let (frame, series) = self.ranges(arg, grid)?;
        let kernel = self.kernel(call, scalars, &series)?;
        let held: usize = series.iter().map(|raw| raw.values.len()).sum();
        self.charge_columns(series.len(), grid)?;
        // First and last act like an offset, so they keep the name.
        let drop_name = !matches!(call.function.id, FunctionId::FirstOverTime | FunctionId::LastOverTime);
        let columns = self.per_series_with(&series, |cache: &mut WindowCache, raw| {
            let values = match extension {
                Some(extension) => extended::run(&kernel, raw, &frame, extension),
                None => run(&kernel, raw, &frame, cache),
            };
            Column { labels: raw.labels.clone(), drop_name: drop_name || raw.drop_name, values }
        })?;
        let columns: Vec<Column> = columns.into_iter().filter(|column| !column.is_empty()).collect();
        self.release(held);
        if matches!(call.function.id, FunctionId::Rate | FunctionId::Increase) {
            self.remark_non_counters(&columns, &call.args[0]);
        }
        if call.function.id == FunctionId::AbsentOverTime {
            return Ok(absent_over_time(arg, &columns, grid));
        }
        Ok(columns)
    }

    fn ranges(&mut self, arg: &Node, grid: Grid) -> Result<(Frame, Vec<RawSeries>), QueryError> {
        match &arg.kind {
            NodeKind::Matrix(matrix) => {
                let frame = self.range_frame(matrix, grid)?;
                let (before, after) = self.widening(matrix.selector.extension);
                Ok((frame, self.raw_series(&matrix.selector, &frame, before, after)?))
            }
            NodeKind::Subquery(subquery) => {
                let frame = self.subquery_frame(subquery, grid)?;
                let series = self.subquery(subquery, grid)?;
                self.charge(series.iter().map(|raw| raw.values.len()).sum())?;
                Ok((frame, series))
            }
            _ => Err(super::unexpected_type(arg, crate::ast::ValueType::Matrix)),
        }
    }

    fn kernel(
        &mut self,
        call: &Call,
        scalars: Vec<(ScalarColumn, crate::ast::Span)>,
        series: &[RawSeries],
    ) -> Result<Kernel, QueryError> {
        let mut scalars = scalars.into_iter();
        let mut next = || scalars.next().unwrap_or((ScalarColumn::Constant(f64::NAN), Default::default()));
        Ok(match call.function.id {
            FunctionId::Rate => Kernel::Extrapolate { counter: true, per_second: true },
            FunctionId::Increase => Kernel::Extrapolate { counter: true, per_second: false },
            FunctionId::Delta => Kernel::Extrapolate { counter: false, per_second: false },
            FunctionId::Irate => Kernel::Instant { rate: true },
            FunctionId::Idelta => Kernel::Instant { rate: false },
            FunctionId::SumOverTime => Kernel::Sum,
            FunctionId::AvgOverTime => Kernel::Avg,
            FunctionId::MinOverTime => Kernel::Extreme { largest: false, time: false },
            FunctionId::MaxOverTime => Kernel::Extreme { largest: true, time: false },
            FunctionId::TsOfMinOverTime => Kernel::Extreme { largest: false, time: true },
            FunctionId::TsOfMaxOverTime => Kernel::Extreme { largest: true, time: true },
            FunctionId::CountOverTime => Kernel::Count,
            FunctionId::PresentOverTime | FunctionId::AbsentOverTime => Kernel::Present,
            FunctionId::FirstOverTime => Kernel::First,
            FunctionId::LastOverTime => Kernel::Last,
            FunctionId::TsOfFirstOverTime => Kernel::FirstTime,
            FunctionId::TsOfLastOverTime => Kernel::LastTime,
            FunctionId::Changes => Kernel::Changes,
            FunctionId::Resets => Kernel::Resets,
            FunctionId::StddevOverTime => Kernel::Variance { root: true },
            FunctionId::StdvarOverTime => Kernel::Variance { root: false },
            FunctionId::Deriv => Kernel::Deriv,
            FunctionId::PredictLinear => Kernel::Predict(next().0),
            FunctionId::MadOverTime => Kernel::Mad,
            FunctionId::QuantileOverTime => {
                let (quantile, span) = next();
                if !series.is_empty() {
                    self.check_quantile(&quantile, span);
                }
                Kernel::Quantile(quantile)
            }
            FunctionId::DoubleExponentialSmoothing => {
                let (smoothing, trend) = (next().0, next().0);
                if !series.is_empty() {
                    check_factor("smoothing", &smoothing)?;
                    check_factor("trend", &trend)?;
                }
                Kernel::Smoothing { smoothing, trend }
            }
            _ => {
                return Err(QueryError::Execution(format!("function {:?} takes no range", call.function.name)));
            }
        })
    }

    fn check_quantile(&mut self, quantile: &ScalarColumn, span: crate::ast::Span) {
        let values: &[f64] = match quantile {
            ScalarColumn::Constant(value) => std::slice::from_ref(value),
            ScalarColumn::Steps(values) => values,
        };
        for value in values.iter().filter(|value| !(0.0..=1.0).contains(*value)) {
            self.annotations.invalid_quantile(*value, span);
        }
    }

    /// Rates of what does not look like a counter are most often a mistake.
    fn remark_non_counters(&mut self, columns: &[Column], arg: &Node) {
        for column in columns {
            let Some(name) = column.labels.metric_name() else { continue };
            if self.engine.type_and_unit_labels {
                let kind = column.labels.get("__type__").unwrap_or("");
                if kind != "counter" && kind != "histogram" {
                    self.annotations.possible_non_counter_label(name, kind, arg.span);
                }
            } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix)) {
                self.annotations.possible_non_counter(name, arg.span);
            }
        }
    }
}

fn is_range(node: &Node) -> bool {
    matches!(node.kind, NodeKind::Matrix(_) | NodeKind::Subquery(_))
}

fn extension(arg: &Node) -> Option<RangeExtension> {
    match &arg.kind {
        NodeKind::Matrix(matrix) => matrix.selector.extension,
        _ => None,
    }
}

fn check_extension(call: &Call, extension: Option<RangeExtension>) -> Result<(), QueryError> {
    let (modifier, safe): (&str, &[&str]) = match extension {
        None => return Ok(()),
        Some(RangeExtension::Anchored) => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
        Some(RangeExtension::Smoothed) => ("smoothed", &["delta", "increase", "rate"]),
    };
    if safe.contains(&call.function.name) {
        return Ok(());
    }
    Err(QueryError::Execution(format!(
        "{modifier} modifier can only be used with: {} - not with {}",
        safe.join(", "),
        call.function.name
    )))
}

fn check_factor(name: &str, factor: &ScalarColumn) -> Result<(), QueryError> {
    let values: &[f64] = match factor {
        ScalarColumn::Constant(value) => std::slice::from_ref(value),
        ScalarColumn::Steps(values) => values,
    };
    let symbol = if name == "smoothing" { "sf" } else { "tf" };
    match values.iter().find(|value| **value <= 0.0 || **value >= 1.0) {
        None => Ok(()),
        Some(value) => {
            let value = crate::printer::fixed(*value, 6);
            Err(QueryError::Execution(format!("invalid {name} factor. Expected: 0 < {symbol} < 1, got: {value}")))
        }
    }
}

fn run(kernel: &Kernel, raw: &RawSeries, frame: &Frame, cache: &mut WindowCache) -> Vec<f64> {
    let windows = cache.windows(&raw.timestamps, frame);
    let mut values = vec![ABSENT; frame.grid.count];
    kernels::run(kernel, &Series { timestamps: &raw.timestamps, values: &raw.values }, frame, windows, &mut values);
    values
}

/// One where no series has a value.
fn absent_over_time(arg: &Node, columns: &[Column], grid: Grid) -> Vec<Column> {
    let mut values = vec![1.0; grid.count];
    for column in columns {
        for (into, value) in values.iter_mut().zip(&column.values) {
            if !is_absent(*value) {
                *into = ABSENT;
            }
        }
    }
    let column = Column { labels: Arc::new(absent_labels(arg)), drop_name: true, values };
    if column.is_empty() { Vec::new() } else { vec![column] }
}
