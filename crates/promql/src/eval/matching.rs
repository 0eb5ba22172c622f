//! Operators between two vectors: which series of both sides belong together, step by step.

use std::collections::HashMap;
use std::sync::Arc;

use ers_model::{Labels, METRIC_NAME};

use crate::ast::{Binary, BinaryOp, Cardinality, VectorMatching};
use crate::engine::QueryError;

use super::binary::{changes_meaning, element};
use super::column::{ABSENT, Assembler, Braced, Column, is_absent, key_labels, with_label, without_metadata};
use super::{Evaluation, Grid};

/// Series of both sides that agree in the matching labels, as indices.
#[derive(Default)]
struct Group {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// Groups in the order in which their labels are first met.
fn groups(many: &[Column], one: &[Column], matching: &VectorMatching) -> Vec<Group> {
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (side, columns) in [many, one].into_iter().enumerate() {
        for (at, column) in columns.iter().enumerate() {
            let key = key_labels(&column.labels, &matching.labels, matching.on);
            let group = *by_labels.entry(key).or_insert_with(|| {
                groups.push(Group::default());
                groups.len() - 1
            });
            if side == 0 { groups[group].many.push(at) } else { groups[group].one.push(at) }
        }
    }
    groups
}

fn any_present(columns: &[Column], of: &[usize], step: usize) -> bool {
    of.iter().any(|at| !is_absent(columns[*at].values[step]))
}

/// One side's value in a pair: a series, or the value that stands in for a missing one.
#[derive(Clone, Copy)]
enum Side<'a> {
    Series(&'a Column),
    Fill(f64),
}

impl Evaluation<'_> {
    pub(super) fn set_operation(
        &mut self,
        binary: &Binary,
        mut left: Vec<Column>,
        mut right: Vec<Column>,
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let Some(matching) = &binary.matching else { return Ok(left) };
        let groups = groups(&left, &right, matching);
        match binary.op {
            BinaryOp::And | BinaryOp::Unless => {
                let keep_matched = binary.op == BinaryOp::And;
                for group in &groups {
                    for step in 0..grid.count {
                        if any_present(&right, &group.one, step) != keep_matched {
                            group.many.iter().for_each(|at| left[*at].values[step] = ABSENT);
                        }
                    }
                }
                left.retain(|column| !column.is_empty());
                self.charge_columns(left.len(), grid)?;
                Ok(left)
            }
            _ => {
                for group in &groups {
                    for step in 0..grid.count {
                        if any_present(&left, &group.many, step) {
                            group.one.iter().for_each(|at| right[*at].values[step] = ABSENT);
                        }
                    }
                }
                right.retain(|column| !column.is_empty());
                self.charge_columns(left.len() + right.len(), grid)?;
                let mut result = Assembler::default();
                for column in left.into_iter().chain(right) {
                    result.push(column)?;
                }
                Ok(result.columns)
            }
        }
    }

    /// Arithmetic and comparisons. For `group_right` the sides are exchanged, so that "many" is always the first.
    pub(super) fn match_vectors(
        &mut self,
        binary: &Binary,
        left: &[Column],
        right: &[Column],
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let Some(matching) = &binary.matching else { return Ok(Vec::new()) };
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        // As in Prometheus, these are not exchanged with the sides.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        let groups = groups(many, one, matching);
        self.charge_columns(many.len(), grid)?;
        let mut result = Assembler::default();
        for group in &groups {
            self.check_interrupt()?;
            if group.one.len() > 1 {
                self.check_one_side(matching, many, one, group, grid)?;
            }
            let mut pairs = Pairs { binary, matching, swapped, made: HashMap::new() };
            for at in &group.many {
                for other in &group.one {
                    pairs.combine(Side::Series(&many[*at]), Side::Series(&one[*other]), grid, |_| true)?;
                }
                if let Some(fill) = fill_one {
                    let missing = |step: usize| !any_present(one, &group.one, step);
                    pairs.combine(Side::Series(&many[*at]), Side::Fill(fill), grid, missing)?;
                }
            }
            if let Some(fill) = fill_many {
                for other in &group.one {
                    let missing = |step: usize| !any_present(many, &group.many, step);
                    pairs.combine(Side::Fill(fill), Side::Series(&one[*other]), grid, missing)?;
                }
            }
            for column in pairs.finish() {
                result.push(column)?;
            }
        }
        result.columns.retain(|column| !column.is_empty());
        Ok(result.columns)
    }

    /// No two series of the "one" side may share the matching labels at a step.
    fn check_one_side(
        &self,
        matching: &VectorMatching,
        many: &[Column],
        one: &[Column],
        group: &Group,
        grid: Grid,
    ) -> Result<(), QueryError> {
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        for step in 0..grid.count {
            let mut present = group.one.iter().filter(|at| !is_absent(one[**at].values[step]));
            let (Some(first), Some(second)) = (present.next(), present.next()) else { continue };
            if !fills && many.iter().all(|column| is_absent(column.values[step])) {
                continue;
            }
            let mut names = [first, second].map(|at| Braced(&one[*at].labels).to_string());
            names.sort();
            let side = if matching.cardinality == Cardinality::OneToMany { "left" } else { "right" };
            let key = key_labels(&one[*second].labels, &matching.labels, matching.on);
            let key = Braced(&key);
            return Err(QueryError::Execution(format!(
                "found duplicate series for the match group {key} on the {side} hand-side of the operation: \
                 [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                names[0], names[1]
            )));
        }
        Ok(())
    }
}

/// The results of one group, by their labels.
struct Pairs<'a> {
    binary: &'a Binary,
    matching: &'a VectorMatching,
    swapped: bool,
    made: HashMap<Labels, Made>,
}

struct Made {
    order: usize,
    values: Vec<f64>,
    /// Steps at which a pair was found, even if a comparison then dropped it.
    matched: Vec<bool>,
}

impl Pairs<'_> {
    fn combine(
        &mut self,
        many: Side<'_>,
        one: Side<'_>,
        grid: Grid,
        counts: impl Fn(usize) -> bool,
    ) -> Result<(), QueryError> {
        let labels = self.result_labels(many, one);
        let at = |side: Side<'_>, step: usize| match side {
            Side::Series(column) => column.values[step],
            Side::Fill(value) => value,
        };
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let mut found: Option<Made> = None;
        for step in 0..grid.count {
            let (first, second) = (at(many, step), at(one, step));
            if is_absent(first) || is_absent(second) || !counts(step) {
                continue;
            }
            if one_to_one && self.made.values().any(|made| made.matched[step]) {
                let message =
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
                return Err(QueryError::Execution(message.to_owned()));
            }
            let made = found.get_or_insert_with(|| Made {
                order: self.made.len(),
                values: vec![ABSENT; grid.count],
                matched: vec![false; grid.count],
            });
            let (left, right) = if self.swapped { (second, first) } else { (first, second) };
            made.matched[step] = true;
            made.values[step] = element(self.binary.op, left, right, left, self.binary.return_bool);
        }
        let Some(found) = found else { return Ok(()) };
        match self.made.get_mut(&labels) {
            None => {
                self.made.insert(labels, found);
            }
            Some(made) => {
                for step in (0..grid.count).filter(|step| found.matched[*step]) {
                    if made.matched[step] {
                        let message = "multiple matches for labels: grouping labels must ensure unique matches";
                        return Err(QueryError::Execution(message.to_owned()));
                    }
                    made.matched[step] = true;
                    made.values[step] = found.values[step];
                }
            }
        }
        Ok(())
    }

    fn result_labels(&self, many: Side<'_>, one: Side<'_>) -> Labels {
        // A missing series has the labels that matching compares.
        let of = |side: Side<'_>, other: Side<'_>| match (side, other) {
            (Side::Series(column), _) => column.labels.as_ref().clone(),
            (_, Side::Series(column)) => key_labels(&column.labels, &self.matching.labels, self.matching.on),
            _ => Labels::default(),
        };
        let mut labels = of(many, one);
        if changes_meaning(self.binary.op) {
            labels = without_metadata(&labels);
        }
        if self.matching.cardinality == Cardinality::OneToOne {
            let listed = |name: &str| self.matching.labels.iter().any(|label| **label == *name);
            labels = labels.filtered(|name| listed(name) == self.matching.on);
        }
        if !self.matching.include.is_empty() {
            let source = of(one, many);
            for name in &self.matching.include {
                labels = with_label(&labels, name, source.get(name).unwrap_or(""));
            }
        }
        labels
    }

    fn finish(self) -> Vec<Column> {
        let drop_name = self.binary.return_bool;
        let mut made: Vec<(Labels, Made)> = self.made.into_iter().collect();
        made.sort_by_key(|(_, made)| made.order);
        made.into_iter()
            .map(|(labels, made)| {
                let drop_name = drop_name && labels.get(METRIC_NAME).is_some();
                Column { labels: Arc::new(labels), drop_name, values: made.values }
            })
            .collect()
    }
}
