//! `info()`: adds the labels of info series (`target_info`) that belong to the same instance and job.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ers_model::{Labels, METRIC_NAME};

use crate::ast::{Call, Node, NodeKind, Timing};
use crate::engine::QueryError;
use crate::source::{LabelMatcher, MatchOp, SeriesData};

use super::column::{ABSENT, Assembler, Braced, Column, is_absent};
use super::selector::look_up;
use super::windows::Frame;
use super::{Evaluation, Grid};

/// Labels that say whose info a series is.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
const TARGET_INFO: &str = "target_info";

/// One info series: at each step the sample it shows there, and that sample's time.
struct InfoSeries {
    labels: Arc<Labels>,
    times: Vec<Option<i64>>,
}

impl Evaluation<'_> {
    pub(super) fn info(&mut self, call: &Call, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let (at, offset) = self.info_time(&call.args[0])?;
        let base = self.vector(&call.args[0], grid)?;
        let (names, data) = label_matchers(call.args.get(1));
        let names = effective_names(names)?;
        let is_info = |column: &Column| {
            let name = column.labels.metric_name().unwrap_or("");
            names.iter().all(|matcher| matcher.matches(name))
        };
        let frame = Frame { grid, range: self.engine.lookback_ms, offset, at, lookback: 0 };
        let enriched: Vec<&Column> = base.iter().filter(|column| !is_info(column)).collect();
        let series = self.info_series(&enriched, &names, &data, &frame)?;
        self.charge_columns(base.len(), grid)?;
        let by_key = group_by_key(&series);
        let wanted: BTreeMap<&str, Vec<&LabelMatcher>> = data.iter().fold(BTreeMap::new(), |mut all, matcher| {
            all.entry(&*matcher.name).or_insert_with(Vec::new).push(matcher);
            all
        });
        let mut result = Assembler::default();
        for column in &base {
            if is_info(column) {
                result.push(column.clone())?;
                continue;
            }
            let matching = by_key.get(&key(&column.labels)).map_or(&[][..], Vec::as_slice);
            for part in enrich(column, matching, &series, &wanted, grid)? {
                result.push(part)?;
            }
        }
        result.columns.retain(|column| !column.is_empty());
        Ok(result.columns)
    }

    /// When info series are looked at: as the first selector of the argument says.
    fn info_time(&self, arg: &Node) -> Result<(Option<i64>, i64), QueryError> {
        fn first<'a>(node: &'a Node, around: &mut Vec<&'a Timing>) -> bool {
            match &node.kind {
                NodeKind::Vector(selector) => around.push(&selector.timing),
                NodeKind::Matrix(matrix) => around.push(&matrix.selector.timing),
                NodeKind::Subquery(subquery) => {
                    if !first(&subquery.expr, around) {
                        return false;
                    }
                    around.push(&subquery.timing);
                }
                NodeKind::Number(_) | NodeKind::String(_) => return false,
                NodeKind::Call(call) => return call.args.iter().any(|arg| first(arg, around)),
                NodeKind::Aggregate(aggregate) => {
                    return first(&aggregate.expr, around)
                        || aggregate.param.as_ref().is_some_and(|param| first(param, around));
                }
                NodeKind::Binary(binary) => return first(&binary.lhs, around) || first(&binary.rhs, around),
                NodeKind::Unary(unary) => return first(&unary.expr, around),
                NodeKind::Paren(inner) => return first(inner, around),
            }
            true
        }
        let mut timings = Vec::new();
        first(arg, &mut timings);
        let mut offset = 0;
        for timing in timings {
            offset += self.offset(timing.offset.as_ref())?;
            if let Some(at) = self.at(timing) {
                return Ok((Some(at), offset));
            }
        }
        Ok((None, offset))
    }

    fn info_series(
        &mut self,
        base: &[&Column],
        names: &[LabelMatcher],
        data: &[LabelMatcher],
        frame: &Frame,
    ) -> Result<Vec<InfoSeries>, QueryError> {
        let mut matchers = Vec::new();
        for name in IDENTIFYING {
            let values: BTreeSet<&str> = base.iter().filter_map(|column| column.labels.get(name)).collect();
            if !values.is_empty() {
                let pattern = values.iter().map(|value| regex::escape(value)).collect::<Vec<_>>().join("|");
                let matcher = LabelMatcher::new(name, MatchOp::Regex, &pattern).map_err(QueryError::Execution)?;
                matchers.push(matcher);
            }
        }
        if matchers.is_empty() {
            return Ok(Vec::new());
        }
        matchers.extend_from_slice(data);
        matchers.extend_from_slice(names);
        let found = self.fetch_frame(&matchers, frame, (0, 0), true)?;
        self.charge_columns(found.len(), frame.grid)?;
        self.per_series(&found, |one: &SeriesData| {
            let mut times = vec![None; frame.grid.count];
            look_up(&one.timestamps, &one.values, frame, |step, at| times[step] = Some(one.timestamps[at]));
            InfoSeries { labels: one.labels.clone(), times }
        })
    }
}

/// Matchers of the second argument: those of the info metric's name, and those of the labels to add.
fn label_matchers(arg: Option<&Node>) -> (Vec<LabelMatcher>, Vec<LabelMatcher>) {
    match arg.map(|arg| &arg.kind) {
        Some(NodeKind::Vector(selector)) => {
            selector.matchers.iter().cloned().partition(|matcher| &*matcher.name == METRIC_NAME)
        }
        _ => (Vec::new(), Vec::new()),
    }
}

fn effective_names(mut names: Vec<LabelMatcher>) -> Result<Vec<LabelMatcher>, QueryError> {
    if names.is_empty() {
        return Ok(vec![LabelMatcher::new(METRIC_NAME, MatchOp::Equal, TARGET_INFO).map_err(QueryError::Execution)?]);
    }
    // Exclusions alone would select everything.
    if names.iter().all(|matcher| matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex)) {
        let any_info = LabelMatcher::new(METRIC_NAME, MatchOp::Regex, ".+_info").map_err(QueryError::Execution)?;
        names.insert(0, any_info);
    }
    Ok(names)
}

fn key(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTIFYING.contains(&name))
}

fn group_by_key(series: &[InfoSeries]) -> HashMap<Labels, Vec<usize>> {
    let mut groups: HashMap<Labels, Vec<usize>> = HashMap::new();
    for (at, one) in series.iter().enumerate() {
        groups.entry(key(&one.labels)).or_default().push(at);
    }
    groups
}

/// A base series with added labels: one column per set of info series that are in force, step by step.
fn enrich(
    base: &Column,
    matching: &[usize],
    series: &[InfoSeries],
    wanted: &BTreeMap<&str, Vec<&LabelMatcher>>,
    grid: Grid,
) -> Result<Vec<Column>, QueryError> {
    let mut columns: BTreeMap<Vec<usize>, Option<Column>> = BTreeMap::new();
    for step in (0..grid.count).filter(|step| !is_absent(base.values[*step])) {
        let in_force = newest_per_metric(matching, series, step)?;
        let column = match columns.get_mut(&in_force) {
            Some(known) => known,
            None => {
                let labels = added_labels(base, &in_force, series, wanted)?;
                let made = labels.map(|labels| Column {
                    labels: Arc::new(labels),
                    drop_name: base.drop_name,
                    values: vec![ABSENT; grid.count],
                });
                columns.entry(in_force).or_insert(made)
            }
        };
        if let Some(column) = column {
            column.values[step] = base.values[step];
        }
    }
    Ok(columns.into_values().flatten().collect())
}

/// Of each info metric the series with the newest sample; two of one time contradict each other.
fn newest_per_metric(matching: &[usize], series: &[InfoSeries], step: usize) -> Result<Vec<usize>, QueryError> {
    let mut newest: BTreeMap<&str, usize> = BTreeMap::new();
    for at in matching {
        let one = &series[*at];
        let Some(time) = one.times[step] else { continue };
        let name = one.labels.metric_name().unwrap_or("");
        let Some(known) = newest.get(name).copied() else {
            newest.insert(name, *at);
            continue;
        };
        let known_time = series[known].times[step].unwrap_or(i64::MIN);
        if known_time == time {
            return Err(QueryError::Execution(format!(
                "found duplicate series for info metric: existing {} @ {known_time}, new {} @ {time}",
                Braced(&series[known].labels),
                Braced(&one.labels)
            )));
        }
        if known_time < time {
            newest.insert(name, *at);
        }
    }
    Ok(newest.into_values().collect())
}

/// None when a wanted label must have a value and is not found.
fn added_labels(
    base: &Column,
    in_force: &[usize],
    series: &[InfoSeries],
    wanted: &BTreeMap<&str, Vec<&LabelMatcher>>,
) -> Result<Option<Labels>, QueryError> {
    let mut added = Labels::default();
    for at in in_force {
        for (name, value) in series[*at].labels.iter() {
            if name == METRIC_NAME || !(wanted.is_empty() || wanted.contains_key(name)) {
                continue;
            }
            if added.get(name).is_some_and(|known| known != value) {
                return Err(QueryError::Execution(format!("conflicting label: {name}")));
            }
            if base.labels.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    if in_force.is_empty() && wanted.values().flatten().any(|matcher| !matcher.matches("")) {
        return Ok(None);
    }
    let mut labels = base.labels.as_ref().clone();
    for (name, value) in added.iter() {
        labels.set(name, value);
    }
    Ok(Some(labels))
}
