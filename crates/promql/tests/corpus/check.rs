//! Runs one `eval` the ways Prometheus runs it, and compares.

use std::collections::HashMap;

use ers_model::Labels;
use ers_promql::ast::{At, Node, NodeKind, Timing};
use ers_promql::functions::FunctionId;
use ers_promql::{Engine, QueryResult, QueryValue, Series, parse};

use super::memory::Memory;
use super::notation::Entry;
use super::script::{Eval, Text};

/// Why an `eval` does not pass: a class, which the baseline holds, and details for whoever mends it.
#[derive(Debug)]
pub struct Failure {
    pub class: &'static str,
    pub detail: String,
}

fn failure<T>(class: &'static str, detail: String) -> Result<T, Failure> {
    Err(Failure { class, detail })
}

pub fn run(eval: &Eval, memory: &Memory, engine: &Engine) -> Result<(), Failure> {
    let result = run_all(eval, memory, engine);
    let Err(mut found) = result else { return Ok(()) };
    let selectors = parse(&eval.expr);
    let touches = |what: &dyn Fn(&[ers_promql::LabelMatcher]) -> bool| {
        selectors.as_ref().is_ok_and(|expr| expr.selectors().iter().any(|selector| what(&selector.matchers)))
    };
    if eval.expects_histograms() || memory.converted || touches(&|matchers| memory.has_histograms(matchers)) {
        found.class = "native histograms";
    } else if touches(&|matchers| memory.has_start_times(matchers)) {
        found.class = "start timestamps";
    }
    Err(found)
}

fn run_all(eval: &Eval, memory: &Memory, engine: &Engine) -> Result<(), Failure> {
    if eval.is_range() {
        let result = parse(&eval.expr).map_err(|error| error.to_string()).and_then(|expr| {
            engine.range(&expr, memory, eval.start, eval.end, eval.step).map_err(|error| error.to_string())
        });
        return judge(eval, &eval.expr, result, (eval.start, eval.end, eval.step)).map(|_| ());
    }
    for (expr, at) in variants(eval)? {
        run_instant(eval, &expr, at, memory, engine)?;
    }
    Ok(())
}

fn run_instant(eval: &Eval, text: &str, at: i64, memory: &Memory, engine: &Engine) -> Result<(), Failure> {
    let parsed = parse(text).map_err(|error| error.to_string());
    let result = parsed.clone().and_then(|expr| engine.instant(&expr, memory, at).map_err(|error| error.to_string()));
    let times = eval.matrix.unwrap_or((at, at, 1));
    let Some(result) = judge(eval, text, result, times)? else { return Ok(()) };
    let depends_on_query = ["start()", "end()", "range()", "step()"].iter().any(|call| text.contains(call));
    if eval.matrix.is_some() || eval.string.is_some() || depends_on_query {
        return Ok(());
    }
    let Ok(expr) = parsed else { return Ok(()) };
    let over = match engine.range(&expr, memory, at - 60_000, at + 60_000, 60_000) {
        Ok(over) => over,
        Err(error) => return failure("range error", format!("{text} as a range query: {error}")),
    };
    if eval.ordered {
        return Ok(());
    }
    let QueryValue::Matrix(matrix) = over.value else {
        return failure("type", format!("{text} as a range query gave no matrix"));
    };
    let middle = matrix.iter().filter_map(|series| {
        let point = series.floats.iter().find(|point| point.timestamp_ms == at)?;
        Some((&*series.labels, point.value))
    });
    match result.value {
        QueryValue::Scalar(_) => compare_scalar(eval, text, middle.map(|(_, value)| value).next().unwrap_or(0.0)),
        _ => compare_vector(eval, &format!("{text} (as a range query)"), middle, false),
    }
}

/// The query itself, and with `@ <time>` on every selector at other times, when that must not change the answer.
fn variants(eval: &Eval) -> Result<Vec<(String, i64)>, Failure> {
    let at = eval.start;
    let mut all = vec![(eval.expr.clone(), at)];
    let mut expr = match parse(&eval.expr) {
        Ok(expr) => expr,
        Err(_) if eval.fail.is_some() => return Ok(all),
        Err(error) => return failure("parse", error.to_string()),
    };
    let mut of_time = false;
    pin(expr.root_mut(), at, &mut of_time);
    if of_time {
        return Ok(all);
    }
    let pinned = expr.to_string();
    let others = if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
    all.extend(others.into_iter().map(|other| (pinned.clone(), other)));
    Ok(all)
}

fn pin(node: &mut Node, at: i64, of_time: &mut bool) {
    let set = |timing: &mut Timing| {
        timing.at.get_or_insert(At::Timestamp(at));
    };
    match &mut node.kind {
        NodeKind::Number(_) | NodeKind::String(_) => {}
        NodeKind::Vector(selector) => set(&mut selector.timing),
        NodeKind::Matrix(matrix) => set(&mut matrix.selector.timing),
        // Selectors inside are governed by the subquery's time.
        NodeKind::Subquery(subquery) => {
            set(&mut subquery.timing);
            note_time_functions(&subquery.expr, of_time);
        }
        NodeKind::Call(call) => {
            *of_time |= depends_on_time(call.function.id);
            call.args.iter_mut().for_each(|arg| pin(arg, at, of_time));
        }
        NodeKind::Aggregate(aggregate) => {
            pin(&mut aggregate.expr, at, of_time);
            if let Some(param) = &mut aggregate.param {
                pin(param, at, of_time);
            }
        }
        NodeKind::Binary(binary) => {
            pin(&mut binary.lhs, at, of_time);
            pin(&mut binary.rhs, at, of_time);
        }
        NodeKind::Unary(unary) => pin(&mut unary.expr, at, of_time),
        NodeKind::Paren(inner) => pin(inner, at, of_time),
    }
}

fn note_time_functions(node: &Node, of_time: &mut bool) {
    node.visit(&mut |node| {
        if let NodeKind::Call(call) = &node.kind {
            *of_time |= depends_on_time(call.function.id);
        }
    });
}

fn depends_on_time(id: FunctionId) -> bool {
    matches!(
        id,
        FunctionId::DaysInMonth
            | FunctionId::DayOfMonth
            | FunctionId::DayOfWeek
            | FunctionId::DayOfYear
            | FunctionId::End
            | FunctionId::Hour
            | FunctionId::Minute
            | FunctionId::Month
            | FunctionId::Year
            | FunctionId::PredictLinear
            | FunctionId::Range
            | FunctionId::Start
            | FunctionId::Step
            | FunctionId::Time
            | FunctionId::Timestamp
    )
}

/// Compares a result with what is expected; gives it back when there is more to do with it.
fn judge(
    eval: &Eval,
    text: &str,
    result: Result<QueryResult, String>,
    times: (i64, i64, i64),
) -> Result<Option<QueryResult>, Failure> {
    let result = match (result, &eval.fail) {
        (Err(error), Some(expected)) if expected.matches(&error) => return Ok(None),
        (Err(error), Some(expected)) => {
            return failure("error text", format!("{text}: expected error {expected:?}, got {error:?}"));
        }
        (Err(error), None) => return failure("error", format!("{text}: {error}")),
        (Ok(_), Some(expected)) => return failure("no error", format!("{text}: expected error {expected:?}")),
        (Ok(result), None) => result,
    };
    check_remarks(text, "warn", &eval.warn, eval.no_warn, &result.warnings)?;
    check_remarks(text, "info", &eval.info, eval.no_info, &result.infos)?;
    match &result.value {
        QueryValue::Scalar(point) => compare_scalar(eval, text, point.value)?,
        QueryValue::String { value, .. } => {
            if eval.string.as_ref() != Some(value) {
                return failure("value", format!("{text}: expected {:?}, got {value:?}", eval.string));
            }
        }
        QueryValue::Vector { samples, .. } => {
            let samples = samples.iter().map(|sample| (&*sample.labels, sample.value));
            compare_vector(eval, text, samples, eval.ordered)?;
        }
        QueryValue::Matrix(matrix) => compare_matrix(eval, text, matrix, times)?,
    }
    Ok(Some(result))
}

fn check_remarks(text: &str, kind: &str, expected: &[Text], none: bool, got: &[String]) -> Result<(), Failure> {
    if none && !got.is_empty() {
        return failure("annotations", format!("{text}: unexpected {kind}: {got:?}"));
    }
    if expected.is_empty() {
        return Ok(());
    }
    let unmet = expected.iter().find(|text| !got.iter().any(|line| text.matches(line)));
    if let Some(unmet) = unmet {
        return failure("annotations", format!("{text}: expected {kind} {unmet:?}, got {got:?}"));
    }
    match got.iter().find(|line| !expected.iter().any(|text| text.matches(line))) {
        Some(extra) => failure("annotations", format!("{text}: unexpected {kind} {extra:?}")),
        None => Ok(()),
    }
}

/// Relative tolerance of the corpus.
const EPSILON: f64 = 1e-6;

fn nearly_equal(left: f64, right: f64) -> bool {
    if left.is_nan() && right.is_nan() || left == right {
        return true;
    }
    let (size, difference) = (left.abs() + right.abs(), (left - right).abs());
    if left == 0.0 || right == 0.0 || size < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < EPSILON
}

fn compare_scalar(eval: &Eval, text: &str, got: f64) -> Result<(), Failure> {
    match eval.scalar {
        Some(expected) if nearly_equal(expected, got) => Ok(()),
        expected => failure("value", format!("{text}: expected scalar {expected:?}, got {got}")),
    }
}

fn compare_vector<'a>(
    eval: &Eval,
    text: &str,
    got: impl Iterator<Item = (&'a Labels, f64)>,
    ordered: bool,
) -> Result<(), Failure> {
    if eval.scalar.is_some() {
        return failure("type", format!("{text}: expected a scalar, got a vector"));
    }
    let mut expected: HashMap<&Labels, (usize, &Entry)> = HashMap::new();
    for (at, (labels, entries)) in eval.series.iter().enumerate() {
        expected.insert(labels, (at, entries.first().unwrap_or(&Entry::Omitted)));
    }
    for (position, (labels, value)) in got.enumerate() {
        let Some((at, entry)) = expected.remove(labels) else {
            return failure("value", format!("{text}: unexpected series {labels} {value}"));
        };
        if ordered && at != position {
            return failure("order", format!("{text}: {labels} at {position}, expected at {at}"));
        }
        match entry {
            Entry::Float(want) if nearly_equal(*want, value) => {}
            want => return failure("value", format!("{text}: expected {want:?} for {labels}, got {value}")),
        }
    }
    match expected.iter().next() {
        Some((labels, entry)) => failure("value", format!("{text}: missing {labels} {entry:?}")),
        None => Ok(()),
    }
}

fn compare_matrix(eval: &Eval, text: &str, got: &[Series], times: (i64, i64, i64)) -> Result<(), Failure> {
    if !got.is_sorted_by(|left, right| left.labels <= right.labels) {
        return failure("order", format!("{text}: the matrix is not sorted by labels"));
    }
    let mut expected: HashMap<&Labels, &[Entry]> =
        eval.series.iter().map(|(labels, entries)| (labels, entries.as_slice())).collect();
    for series in got {
        let shown: Vec<(i64, f64)> = series.floats.iter().map(|point| (point.timestamp_ms, point.value)).collect();
        let Some(entries) = expected.remove(&*series.labels) else {
            return failure("value", format!("{text}: unexpected series {} {shown:?}", series.labels));
        };
        let want: Vec<(i64, f64)> = entries
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| match entry {
                Entry::Float(value) => Some((times.0 + at as i64 * times.2, *value)),
                _ => None,
            })
            .collect();
        let same = want.len() == shown.len()
            && want.iter().zip(&shown).all(|(want, got)| want.0 == got.0 && nearly_equal(want.1, got.1));
        if !same || entries.iter().any(|entry| matches!(entry, Entry::Histogram)) {
            return failure("value", format!("{text}: expected {} {want:?}, got {shown:?}", series.labels));
        }
    }
    match expected.iter().next() {
        Some((labels, entries)) => failure("value", format!("{text}: missing {labels} {entries:?}")),
        None => Ok(()),
    }
}
