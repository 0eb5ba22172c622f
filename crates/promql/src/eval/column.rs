//! The evaluator's values: one column of numbers per series, one number per step.

use std::collections::HashMap;
use std::sync::Arc;

use ers_model::sample::STALE_NAN_BITS;
use ers_model::{Label, Labels, METRIC_NAME, STALE_NAN};

use crate::engine::QueryError;
use crate::printer::is_plain_label;
use crate::quote::quote;

/// Stands for "no value at this step". Stale markers never leave the selectors, and no operation makes that NaN of others,
/// so it can't be mistaken.
pub(crate) const ABSENT: f64 = STALE_NAN;

pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One series over all steps. Native histograms will be a second, optional column beside the floats.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub labels: Arc<Labels>,
    /// The name goes away when the query ends (delayed name removal), or when an aggregation or operator drops it before.
    pub drop_name: bool,
    /// [`ABSENT`] where the series has no value.
    pub values: Vec<f64>,
}

impl Column {
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_absent(*value))
    }
}

/// A scalar at each step.
#[derive(Clone, Debug)]
pub(crate) enum ScalarColumn {
    Constant(f64),
    Steps(Vec<f64>),
}

impl ScalarColumn {
    pub fn at(&self, step: usize) -> f64 {
        match self {
            ScalarColumn::Constant(value) => *value,
            ScalarColumn::Steps(values) => values[step],
        }
    }

    pub fn map(self, call: impl Fn(f64) -> f64) -> Self {
        match self {
            ScalarColumn::Constant(value) => ScalarColumn::Constant(call(value)),
            ScalarColumn::Steps(mut values) => {
                values.iter_mut().for_each(|value| *value = call(*value));
                ScalarColumn::Steps(values)
            }
        }
    }

    pub fn zip(self, other: ScalarColumn, call: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (ScalarColumn::Constant(left), ScalarColumn::Constant(right)) => ScalarColumn::Constant(call(left, right)),
            (ScalarColumn::Steps(mut left), right) => {
                left.iter_mut().enumerate().for_each(|(step, value)| *value = call(*value, right.at(step)));
                ScalarColumn::Steps(left)
            }
            (left, ScalarColumn::Steps(mut right)) => {
                right.iter_mut().enumerate().for_each(|(step, value)| *value = call(left.at(step), *value));
                ScalarColumn::Steps(right)
            }
        }
    }
}

/// Samples of one series for functions over ranges: stored ones without stale markers, or the result of a subquery.
#[derive(Clone, Debug)]
pub(crate) struct RawSeries {
    pub labels: Arc<Labels>,
    pub drop_name: bool,
    pub timestamps: Arc<[i64]>,
    pub values: Vec<f64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(ScalarColumn),
    Vector(Vec<Column>),
    Matrix(Vec<RawSeries>),
    String(Box<[u8]>),
}

/// Labels that describe the metric rather than the thing measured; operations that change the meaning of a value drop them.
const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    labels.filtered(|name| !METADATA.contains(&name))
}

/// The labels that decide which series belong together: for `by` and `on` the named ones,
/// for `without` and `ignoring` all but those and the metric's name.
pub(crate) fn key_labels(labels: &Labels, names: &[Box<str>], keep_named: bool) -> Labels {
    let named = |name: &str| names.iter().any(|listed| **listed == *name);
    if keep_named { labels.filtered(named) } else { labels.filtered(|name| name != METRIC_NAME && !named(name)) }
}

pub(crate) fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut changed: Vec<Label> = labels.as_slice().iter().filter(|label| *label.name != *name).cloned().collect();
    if !value.is_empty() {
        let at = changed.partition_point(|label| *label.name < *name);
        changed.insert(at, Label { name: name.into(), value: value.into() });
    }
    Labels::from_sorted(changed)
}

/// Labels as Prometheus' messages show them, the name among the others.
pub(crate) struct Braced<'a>(pub &'a Labels);

impl std::fmt::Display for Braced<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if is_plain_label(name) {
                f.write_str(name)?
            } else {
                f.write_str(&quote(name.as_bytes()))?
            }
            write!(f, "={}", quote(value.as_bytes()))?;
        }
        f.write_str("}")
    }
}

pub(crate) fn duplicate_labels() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

/// Collects columns by their labels; columns of one label set are merged where they do not meet at a step.
#[derive(Default)]
pub(crate) struct Assembler {
    by_labels: HashMap<Arc<Labels>, usize>,
    pub columns: Vec<Column>,
}

impl Assembler {
    pub fn push(&mut self, column: Column) -> Result<(), QueryError> {
        match self.by_labels.get(&column.labels) {
            None => {
                self.by_labels.insert(column.labels.clone(), self.columns.len());
                self.columns.push(column);
            }
            Some(at) => {
                let known = &mut self.columns[*at];
                for (into, value) in known.values.iter_mut().zip(&column.values) {
                    if is_absent(*value) {
                        continue;
                    }
                    if !is_absent(*into) {
                        return Err(duplicate_labels());
                    }
                    *into = *value;
                }
            }
        }
        Ok(())
    }
}

/// Merges columns whose labels became equal; the order of first occurrence stays.
pub(crate) fn merge_equal(columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    if columns.len() < 2 {
        return Ok(columns);
    }
    let mut assembler = Assembler::default();
    for column in columns {
        assembler.push(column)?;
    }
    Ok(assembler.columns)
}

/// Drops the names that are due to be dropped.
pub(crate) fn remove_names(mut columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    let mut changed = false;
    for column in columns.iter_mut().filter(|column| column.drop_name) {
        column.drop_name = false;
        if METADATA.iter().any(|name| column.labels.get(name).is_some()) {
            column.labels = Arc::new(without_metadata(&column.labels));
            changed = true;
        }
    }
    if changed { merge_equal(columns) } else { Ok(columns) }
}
