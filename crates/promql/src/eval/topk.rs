//! Aggregations that pick series: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use crate::ast::{Aggregate, AggregateOp, Node};
use crate::engine::QueryError;
use crate::printer::format_general;

use super::aggregate::groups;
use super::column::{ABSENT, Column, ScalarColumn, is_absent};
use super::{Evaluation, Grid};

use ers_model::Labels;

/// A binary heap that works as Go's `container/heap`, so that of equal values the same ones are kept.
struct Heap {
    /// For `topk` the smallest value lies on top, for `bottomk` the largest; NaN before both.
    smallest_first: bool,
    items: Vec<(f64, usize)>,
}

impl Heap {
    fn less(&self, left: usize, right: usize) -> bool {
        let (left, right) = (self.items[left].0, self.items[right].0);
        left.is_nan() || if self.smallest_first { left < right } else { left > right }
    }

    fn push(&mut self, item: (f64, usize)) {
        self.items.push(item);
        let mut at = self.items.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.less(at, parent) {
                break;
            }
            self.items.swap(at, parent);
            at = parent;
        }
    }

    fn replace_top(&mut self, item: (f64, usize)) {
        self.items[0] = item;
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= self.items.len() {
                return;
            }
            if child + 1 < self.items.len() && self.less(child + 1, child) {
                child += 1;
            }
            if !self.less(child, at) {
                return;
            }
            self.items.swap(at, child);
            at = child;
        }
    }

    /// Keeps the best `limit` items.
    fn offer(&mut self, item: (f64, usize), limit: usize) {
        if self.items.len() < limit {
            return self.push(item);
        }
        let top = self.items[0].0;
        let better = if self.smallest_first { top < item.0 } else { top > item.0 };
        if better || (top.is_nan() && !item.0.is_nan()) {
            self.replace_top(item);
        }
    }

    /// Best first; no longer a heap.
    fn sort(&mut self) {
        let descending = self.smallest_first;
        self.items.sort_by(|(left, _), (right, _)| {
            let order = super::quantile::nan_first(*left, *right);
            match (left.is_nan() || right.is_nan(), descending) {
                // NaN last in both.
                (true, _) | (_, true) => order.reverse(),
                _ => order,
            }
        });
    }
}

impl Evaluation<'_> {
    pub(super) fn select_series(
        &mut self,
        aggregate: &Aggregate,
        node: &Node,
        param: &ScalarColumn,
        columns: Vec<Column>,
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let steps = if matches!(param, ScalarColumn::Constant(_)) { 1 } else { grid.count };
        let values = || (0..steps).map(|step| param.at(step));
        let largest = values().fold(f64::NEG_INFINITY, f64::max);
        let smallest = values().fold(f64::INFINITY, f64::min);
        let has_nan = values().any(f64::is_nan);
        let failed = |message: String| Err(QueryError::Execution(message));
        if aggregate.op == AggregateOp::LimitRatio {
            if largest == 0.0 && smallest == 0.0 && !has_nan {
                return Ok(Vec::new());
            }
            if has_nan {
                return failed("Ratio value is NaN".to_owned());
            }
            if largest > 1.0 {
                self.annotations.invalid_ratio(largest, 1.0, node.span);
            }
            if smallest < -1.0 {
                self.annotations.invalid_ratio(smallest, -1.0, node.span);
            }
        } else {
            if largest < 1.0 && !has_nan {
                return Ok(Vec::new());
            }
            if has_nan {
                return failed("Parameter value is NaN".to_owned());
            }
            if smallest <= i64::MIN as f64 {
                return failed(format!("Scalar value {} underflows int64", format_general(smallest)));
            }
            if largest >= i64::MAX as f64 {
                return failed(format!("Scalar value {} overflows int64", format_general(largest)));
            }
        }
        if columns.is_empty() {
            return Ok(columns);
        }
        self.charge_columns(columns.len(), grid)?;
        let groups = groups(&columns, aggregate);
        let offsets: Vec<f64> = match aggregate.op {
            AggregateOp::LimitRatio => columns.iter().map(|column| sampling_offset(&column.labels)).collect(),
            _ => Vec::new(),
        };
        let mut chosen: Vec<Vec<f64>> = vec![vec![ABSENT; grid.count]; columns.len()];
        let mut order: Vec<usize> = Vec::new();
        let mut picked = Heap { smallest_first: aggregate.op == AggregateOp::Topk, items: Vec::new() };
        for group in &groups {
            self.check_interrupt()?;
            for step in grid.steps() {
                let present = group.members.iter().filter(|at| !is_absent(columns[**at].values[step]));
                let present = present.map(|at| (columns[*at].values[step], *at));
                picked.items.clear();
                pick(aggregate.op, param.at(step), present, columns.len(), &offsets, &mut picked);
                for (value, at) in &picked.items {
                    chosen[*at][step] = *value;
                    if grid.count == 1 {
                        order.push(*at);
                    }
                }
            }
        }
        if grid.count > 1 {
            order = (0..columns.len()).collect();
        }
        let result = order.into_iter().map(|at| Column {
            labels: columns[at].labels.clone(),
            drop_name: columns[at].drop_name,
            values: std::mem::take(&mut chosen[at]),
        });
        Ok(result.filter(|column| !column.is_empty()).collect())
    }
}

fn pick(
    op: AggregateOp,
    param: f64,
    present: impl Iterator<Item = (f64, usize)>,
    series: usize,
    offsets: &[f64],
    picked: &mut Heap,
) {
    if op == AggregateOp::LimitRatio {
        let ratio = param.clamp(-1.0, 1.0);
        return picked.items.extend(present.filter(|(_, at)| in_ratio(ratio, offsets[*at])));
    }
    // Below one nothing is picked; a fraction counts as the whole number below it.
    let limit = if param < 1.0 { 0 } else { (param as usize).min(series) };
    if limit == 0 {
        return;
    }
    if op == AggregateOp::Limitk {
        return picked.items.extend(present.take(limit));
    }
    present.for_each(|item| picked.offer(item, limit));
    picked.sort();
}

/// A negative ratio picks what the positive one that complements it leaves.
fn in_ratio(ratio: f64, offset: f64) -> bool {
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

/// Where a series lies in 0..1, by its labels alone: the same series is picked whenever and wherever the query runs.
fn sampling_offset(labels: &Labels) -> f64 {
    // FNV-1a, then a finalizer that spreads its weak high bits (splitmix64).
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (name, value) in labels.iter() {
        for byte in name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)) as f64 / u64::MAX as f64
}
