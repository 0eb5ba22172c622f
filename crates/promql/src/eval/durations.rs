//! Lengths of time that depend on the query's step or range.

use crate::ast::{DurationExpr, DurationKind, DurationOp, DurationValue, Expr, NodeKind, Span};
use crate::engine::QueryError;

use super::Evaluation;
use super::vector_functions::{go_max, go_min};

/// Seconds beyond which Prometheus' nanoseconds overflow.
const MAX_SECONDS: f64 = 9_223_372_036.854_776;

/// Computes all durations of a query before anything is read, so that a bad one is an error even where nothing is found.
pub(super) fn check(evaluation: &Evaluation<'_>, expr: &Expr) -> Result<(), QueryError> {
    let mut result = Ok(());
    expr.root.visit(&mut |node| {
        let mut keep = |checked: Result<i64, QueryError>| {
            if result.is_ok() {
                result = checked.map(|_| ());
            }
        };
        match &node.kind {
            NodeKind::Vector(selector) => keep(evaluation.offset(selector.timing.offset.as_ref())),
            NodeKind::Matrix(matrix) => {
                keep(evaluation.offset(matrix.selector.timing.offset.as_ref()));
                keep(evaluation.length(&matrix.range));
            }
            NodeKind::Subquery(subquery) => {
                keep(evaluation.offset(subquery.timing.offset.as_ref()));
                if let Some(step) = &subquery.step {
                    keep(evaluation.length(step));
                }
                keep(evaluation.length(&subquery.range));
            }
            _ => {}
        }
    });
    result
}

impl Evaluation<'_> {
    /// A range or a step, in milliseconds.
    pub(super) fn length(&self, value: &DurationValue) -> Result<i64, QueryError> {
        match value {
            DurationValue::Millis(millis) => Ok(*millis),
            DurationValue::Expr(expr) => self.duration(expr, false),
        }
    }

    /// An offset in milliseconds; positive ones look back.
    pub(super) fn offset(&self, value: Option<&DurationValue>) -> Result<i64, QueryError> {
        match value {
            None => Ok(0),
            Some(DurationValue::Millis(millis)) => Ok(*millis),
            Some(DurationValue::Expr(expr)) => self.duration(expr, true),
        }
    }

    fn duration(&self, expr: &DurationExpr, may_be_negative: bool) -> Result<i64, QueryError> {
        let seconds = self.seconds(expr)?;
        if !seconds.is_finite() {
            return failed(expr.span, "duration is NaN or infinite");
        }
        if seconds <= 0.0 && !may_be_negative {
            return failed(expr.span, "duration must be greater than 0");
        }
        if seconds.abs() > MAX_SECONDS {
            return failed(expr.span, "duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, QueryError> {
        Ok(match &expr.kind {
            DurationKind::Number(number) => number.value,
            DurationKind::Step => self.step as f64 / 1000.0,
            DurationKind::Range => (self.end - self.start) as f64 / 1000.0,
            DurationKind::Negative(inner) => -self.seconds(inner)?,
            DurationKind::Paren(inner) => self.seconds(inner)?,
            DurationKind::Binary(op, left, right) => {
                let (left, right) = (self.seconds(left)?, self.seconds(right)?);
                match op {
                    DurationOp::Add => left + right,
                    DurationOp::Sub => left - right,
                    DurationOp::Mul => left * right,
                    DurationOp::Div if right == 0.0 => return failed(expr.span, "division by zero"),
                    DurationOp::Div => left / right,
                    DurationOp::Mod if right == 0.0 => return failed(expr.span, "modulo by zero"),
                    DurationOp::Mod => left % right,
                    DurationOp::Pow => left.powf(right),
                    DurationOp::MinOf => go_min(left, right),
                    DurationOp::MaxOf => go_max(left, right),
                }
            }
        })
    }
}

fn failed<T>(span: Span, message: &str) -> Result<T, QueryError> {
    Err(QueryError::Execution(format!("{}:{}: {message}", span.start, span.end)))
}
