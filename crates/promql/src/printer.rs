//! The canonical form of a query, as Prometheus' `format_query` prints an expression on one line.

use std::fmt::{self, Display, Formatter, Write};

use crate::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, DurationKind, DurationOp, DurationValue, Expr, Node, NodeKind,
    NumberLiteral, RangeExtension, Timing, VectorSelector,
};
use crate::duration::format_duration;
use crate::quote::quote;
use crate::source::{LabelMatcher, MatchOp};

/// The shortest decimal form without exponent that reads back as the same number; infinities and NaN as Go writes them.
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

/// With a fixed number of decimals.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { format_float(value) }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            NodeKind::Number(number) => number.fmt(f),
            NodeKind::String(literal) => f.write_str(&quote(&literal.bytes)),
            NodeKind::Paren(inner) => write!(f, "({inner})"),
            NodeKind::Unary(unary) => write!(f, "{}{}", if unary.negative { '-' } else { '+' }, unary.expr),
            NodeKind::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                write_list(f, &call.args)?;
                f.write_char(')')
            }
            NodeKind::Aggregate(aggregate) => write_aggregate(f, aggregate),
            NodeKind::Binary(binary) => write_binary(f, binary),
            NodeKind::Vector(selector) => {
                write_series(f, selector)?;
                write_at(f, &selector.timing)?;
                write_extension(f, selector)?;
                write_offset(f, &selector.timing)
            }
            NodeKind::Matrix(matrix) => {
                write_series(f, &matrix.selector)?;
                write!(f, "[{}]", matrix.range)?;
                write_extension(f, &matrix.selector)?;
                write_at(f, &matrix.selector.timing)?;
                write_offset(f, &matrix.selector.timing)
            }
            NodeKind::Subquery(subquery) => {
                write!(f, "{}[{}:", subquery.expr, subquery.range)?;
                if let Some(step) = &subquery.step {
                    step.fmt(f)?;
                }
                f.write_char(']')?;
                write_at(f, &subquery.timing)?;
                write_offset(f, &subquery.timing)
            }
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.duration {
            f.write_str(&format_duration((self.value * 1000.0).round() as i64))
        } else {
            f.write_str(&format_float(self.value))
        }
    }
}

impl Display for DurationValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationValue::Millis(millis) => f.write_str(&format_duration(*millis)),
            DurationValue::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Number(number) => number.fmt(f),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::Negative(inner) => write!(f, "-{inner}"),
            DurationKind::Paren(inner) => write!(f, "({inner})"),
            DurationKind::Binary(DurationOp::MinOf, left, right) => write!(f, "min_of({left}, {right})"),
            DurationKind::Binary(DurationOp::MaxOf, left, right) => write!(f, "max_of({left}, {right})"),
            DurationKind::Binary(op, left, right) => {
                let symbol = match op {
                    DurationOp::Add => "+",
                    DurationOp::Sub => "-",
                    DurationOp::Mul => "*",
                    DurationOp::Div => "/",
                    DurationOp::Mod => "%",
                    _ => "^",
                };
                write!(f, "{left} {symbol} {right}")
            }
        }
    }
}

impl Display for LabelMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        write_label_name(f, &self.name)?;
        write!(f, "{op}{}", quote(self.value.as_bytes()))
    }
}

/// Whether a name can be written as a label without quotes.
pub(crate) fn is_plain_label(name: &str) -> bool {
    name.bytes().next().is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

fn write_label_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_plain_label(name) { f.write_str(name) } else { f.write_str(&quote(name.as_bytes())) }
}

fn write_labels(f: &mut Formatter<'_>, labels: &[Box<str>]) -> fmt::Result {
    f.write_char('(')?;
    for (at, label) in labels.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write_label_name(f, label)?;
    }
    f.write_char(')')
}

fn write_list(f: &mut Formatter<'_>, nodes: &[Node]) -> fmt::Result {
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        node.fmt(f)?;
    }
    Ok(())
}

fn write_series(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    f.write_str(name)?;
    let is_name = |matcher: &&LabelMatcher| {
        &*matcher.name == ers_model::METRIC_NAME
            && matcher.op == MatchOp::Equal
            && *matcher.value == *name
            && !matcher.value.is_empty()
    };
    let mut matchers: Vec<String> =
        selector.matchers.iter().filter(|matcher| !is_name(matcher)).map(ToString::to_string).collect();
    matchers.sort();
    if !matchers.is_empty() || name.is_empty() {
        write!(f, "{{{}}}", matchers.join(","))?;
    }
    Ok(())
}

fn write_extension(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    match selector.extension {
        Some(RangeExtension::Anchored) => f.write_str(" anchored"),
        Some(RangeExtension::Smoothed) => f.write_str(" smoothed"),
        None => Ok(()),
    }
}

fn write_at(f: &mut Formatter<'_>, timing: &Timing) -> fmt::Result {
    match timing.at {
        Some(At::Timestamp(millis)) => write!(f, " @ {:.3}", millis as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        None => Ok(()),
    }
}

fn write_offset(f: &mut Formatter<'_>, timing: &Timing) -> fmt::Result {
    match &timing.offset {
        Some(offset) => write!(f, " offset {offset}"),
        None => Ok(()),
    }
}

fn write_aggregate(f: &mut Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.name())?;
    if aggregate.without || !aggregate.grouping.is_empty() {
        f.write_str(if aggregate.without { " without " } else { " by " })?;
        write_labels(f, &aggregate.grouping)?;
        f.write_char(' ')?;
    }
    f.write_char('(')?;
    if let Some(param) = &aggregate.param {
        write!(f, "{param}, ")?;
    }
    write!(f, "{})", aggregate.expr)
}

fn write_binary(f: &mut Formatter<'_>, binary: &Binary) -> fmt::Result {
    write!(f, "{} {}", binary.lhs, binary.op.symbol())?;
    if binary.return_bool {
        f.write_str(" bool")?;
    }
    if let Some(matching) = &binary.matching {
        let grouped = matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
        if matching.on || grouped || !matching.labels.is_empty() {
            f.write_str(if matching.on { " on " } else { " ignoring " })?;
            write_labels(f, &matching.labels)?;
        }
        if grouped {
            let left = matching.cardinality == Cardinality::ManyToOne;
            f.write_str(if left { " group_left " } else { " group_right " })?;
            write_labels(f, &matching.include)?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", format_float(left))?,
            (left, right) => {
                if let Some(value) = left {
                    write!(f, " fill_left ({})", format_float(value))?;
                }
                if let Some(value) = right {
                    write!(f, " fill_right ({})", format_float(value))?;
                }
            }
        }
    }
    write!(f, " {}", binary.rhs)
}

/// As Go's `%g`: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_general(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_float(value);
    }
    let scientific = format!("{value:e}");
    general(&scientific, 6).unwrap_or(scientific)
}

/// As Go's `%.2g`.
pub(crate) fn two_digits(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_float(value);
    }
    let scientific = format!("{value:.1e}");
    general(&scientific, 2).unwrap_or(scientific)
}

/// Turns `d.ddde±x` into Go's form for `%g`, with an exponent from `10^limit` on.
fn general(scientific: &str, limit: i32) -> Option<String> {
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return Some(format!("{mantissa}e{sign}{:02}", exponent.abs()));
    }
    let value: f64 = format!("{mantissa}e{exponent}").parse().ok()?;
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_floats_print_as_in_go() {
        for (value, text) in [
            (0.5, "0.5"),
            (100_000.0, "100000"),
            (1_234_567.0, "1.234567e+06"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "+Inf"),
            (-2.0, "-2"),
        ] {
            assert_eq!(format_general(value), text);
        }
        assert_eq!((two_digits(10.0), two_digits(123.0)), ("10".to_owned(), "1.2e+02".to_owned()));
    }
}
