//! Aggregations: one column per group, filled from its series in a fixed order.

use std::collections::HashMap;
use std::sync::Arc;

use ers_model::Labels;

use crate::ast::{Aggregate, AggregateOp, Node, NodeKind};
use crate::engine::QueryError;
use crate::printer::format_float;
use crate::quote::quote;

use super::column::{ABSENT, Column, ScalarColumn, is_absent, key_labels, with_label};
use super::kahan::{KahanSum, Mean};
use super::quantile::quantile;
use super::{Evaluation, Grid};

/// Series that are aggregated into one.
pub(super) struct Group {
    pub labels: Arc<Labels>,
    pub members: Vec<usize>,
}

pub(super) fn groups(columns: &[Column], aggregate: &Aggregate) -> Vec<Group> {
    if !aggregate.without && aggregate.grouping.is_empty() {
        let members = (0..columns.len()).collect();
        return vec![Group { labels: Arc::new(Labels::default()), members }];
    }
    let mut by_labels: HashMap<Arc<Labels>, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let labels = Arc::new(key_labels(&column.labels, &aggregate.grouping, !aggregate.without));
        let group = *by_labels.entry(labels.clone()).or_insert_with(|| {
            groups.push(Group { labels, members: Vec::new() });
            groups.len() - 1
        });
        groups[group].members.push(at);
    }
    groups
}

impl Evaluation<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Column>, QueryError> {
        if aggregate.op == AggregateOp::CountValues {
            return self.count_values(aggregate, grid);
        }
        let param = match &aggregate.param {
            Some(param) => Some(self.scalar(param, grid)?),
            None => None,
        };
        let columns = self.vector(&aggregate.expr, grid)?;
        let held = columns.len().saturating_mul(grid.count);
        let result = match (aggregate.op, &aggregate.param, param) {
            (
                AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio,
                Some(node),
                Some(param),
            ) => self.select_series(aggregate, node, &param, columns, grid)?,
            (op, node, param) => {
                if let (Some(node), Some(param)) = (node, &param) {
                    self.check_aggregate_quantile(node, param, grid);
                }
                let groups = if columns.is_empty() { Vec::new() } else { groups(&columns, aggregate) };
                self.charge_columns(groups.len(), grid)?;
                let mut result = Vec::with_capacity(groups.len());
                for group in groups {
                    self.check_interrupt()?;
                    let drop_name = group.members.iter().any(|at| columns[*at].drop_name);
                    let members = || group.members.iter().map(|at| columns[*at].values.as_slice());
                    let values = combine(op, param.as_ref(), members, grid);
                    result.push(Column { labels: group.labels, drop_name, values });
                }
                result.retain(|column| !column.is_empty());
                result
            }
        };
        self.release(held);
        Ok(result)
    }

    fn check_aggregate_quantile(&mut self, node: &Node, param: &ScalarColumn, grid: Grid) {
        let steps = if matches!(param, ScalarColumn::Constant(_)) { 1 } else { grid.count };
        let values = || (0..steps).map(|step| param.at(step));
        if values().any(f64::is_nan) {
            self.annotations.invalid_quantile(f64::NAN, node.span);
        }
        let largest = values().fold(f64::NEG_INFINITY, f64::max);
        let smallest = values().fold(f64::INFINITY, f64::min);
        if largest > 1.0 {
            self.annotations.invalid_quantile(largest, node.span);
        }
        if smallest < 0.0 {
            self.annotations.invalid_quantile(smallest, node.span);
        }
    }

    /// One series per distinct value and group.
    fn count_values(&mut self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let Some(NodeKind::String(label)) = aggregate.param.as_ref().map(|param| &param.unwrap_parens().kind) else {
            return Err(QueryError::Execution("count_values needs a label as a literal string".to_owned()));
        };
        let name = match std::str::from_utf8(&label.bytes) {
            Ok(name) if !name.is_empty() => name,
            _ => return Err(QueryError::Execution(format!("invalid label name {}", quote(&label.bytes)))),
        };
        let mut grouping = aggregate.grouping.clone();
        if !aggregate.without {
            grouping.push(name.into());
        }
        let columns = self.vector(&aggregate.expr, grid)?;
        let mut by_labels: HashMap<Labels, usize> = HashMap::new();
        let mut result: Vec<Column> = Vec::new();
        let mut by_value: HashMap<u64, usize> = HashMap::new();
        for column in &columns {
            self.check_interrupt()?;
            by_value.clear();
            for (step, value) in column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                let at = match by_value.get(&value.to_bits()) {
                    Some(at) => *at,
                    None => {
                        let labels = with_label(&column.labels, name, &format_float(*value));
                        let labels = key_labels(&labels, &grouping, !aggregate.without);
                        let at = match by_labels.get(&labels) {
                            Some(at) => *at,
                            None => {
                                self.charge_columns(1, grid)?;
                                by_labels.insert(labels.clone(), result.len());
                                let values = vec![ABSENT; grid.count];
                                result.push(Column { labels: Arc::new(labels), drop_name: false, values });
                                result.len() - 1
                            }
                        };
                        by_value.insert(value.to_bits(), at);
                        at
                    }
                };
                let count = &mut result[at].values[step];
                *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
            }
        }
        self.release(columns.len().saturating_mul(grid.count));
        Ok(result)
    }
}

/// Folds the members' values, step by step, in the order of the members.
fn fold<S: Clone>(
    mut members: impl Iterator<Item = impl AsRef<[f64]>>,
    grid: Grid,
    start: impl Fn(f64) -> S,
    add: impl Fn(&mut S, f64),
    finish: impl Fn(S) -> f64,
) -> Vec<f64> {
    let mut states: Vec<Option<S>> = vec![None; grid.count];
    for values in members.by_ref() {
        for (state, value) in states.iter_mut().zip(values.as_ref()) {
            if is_absent(*value) {
                continue;
            }
            match state {
                Some(state) => add(state, *value),
                None => *state = Some(start(*value)),
            }
        }
    }
    states.into_iter().map(|state| state.map_or(ABSENT, &finish)).collect()
}

fn combine<'a, I: Iterator<Item = &'a [f64]>>(
    op: AggregateOp,
    param: Option<&ScalarColumn>,
    members: impl Fn() -> I,
    grid: Grid,
) -> Vec<f64> {
    match op {
        AggregateOp::Sum => fold(members(), grid, KahanSum::starting, |sum, value| sum.add(value), KahanSum::total),
        AggregateOp::Avg => fold(members(), grid, Mean::starting, |mean, value| mean.add(value), Mean::mean),
        AggregateOp::Count => fold(members(), grid, |_| 1.0, |count, _| *count += 1.0, |count| count),
        AggregateOp::Group => fold(members(), grid, |_| 1.0, |_, _| {}, |one| one),
        AggregateOp::Min => fold(
            members(),
            grid,
            |value| value,
            |best, value| {
                if *best > value || best.is_nan() {
                    *best = value;
                }
            },
            |best| best,
        ),
        AggregateOp::Max => fold(
            members(),
            grid,
            |value| value,
            |best, value| {
                if *best < value || best.is_nan() {
                    *best = value;
                }
            },
            |best| best,
        ),
        AggregateOp::Stddev => fold(members(), grid, Variance::starting, Variance::add, |v| v.variance().sqrt()),
        AggregateOp::Stdvar => fold(members(), grid, Variance::starting, Variance::add, |v| v.variance()),
        _ => {
            let mut sorted = Vec::new();
            (0..grid.count)
                .map(|step| {
                    sorted.clear();
                    sorted.extend(members().map(|values| values[step]).filter(|value| !is_absent(*value)));
                    let of = param.map_or(f64::NAN, |param| param.at(step));
                    if sorted.is_empty() { ABSENT } else { quantile(of, &mut sorted) }
                })
                .collect()
        }
    }
}

/// Welford's method.
#[derive(Clone, Copy)]
struct Variance {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Variance {
    fn starting(value: f64) -> Self {
        Variance { count: 1.0, mean: value, squares: if value.is_finite() { 0.0 } else { f64::NAN } }
    }

    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn variance(self) -> f64 {
        self.squares / self.count
    }
}
