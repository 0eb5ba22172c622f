//! Binary operators with at least one scalar, and the arithmetic of all of them.

use crate::ast::{Binary, BinaryOp, Span};
use crate::engine::QueryError;

use super::column::{ABSENT, Column, ScalarColumn, Value, is_absent};
use super::{Evaluation, Grid};

/// A comparison says whether it holds; other operators give a number.
pub(super) fn compute(op: BinaryOp, left: f64, right: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => return None,
    })
}

pub(super) fn holds(op: BinaryOp, left: f64, right: f64) -> bool {
    match op {
        BinaryOp::Equal => left == right,
        BinaryOp::NotEqual => left != right,
        BinaryOp::Less => left < right,
        BinaryOp::LessEqual => left <= right,
        BinaryOp::Greater => left > right,
        BinaryOp::GreaterEqual => left >= right,
        _ => false,
    }
}

/// Operators whose result is no longer what the metric measured.
pub(super) fn changes_meaning(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Pow | BinaryOp::Atan2
    )
}

/// One element of a result; [`ABSENT`] where a comparison filters it out. `kept` is what a filter lets through.
pub(super) fn element(op: BinaryOp, left: f64, right: f64, kept: f64, return_bool: bool) -> f64 {
    match compute(op, left, right) {
        Some(value) => value,
        None if return_bool => f64::from(u8::from(holds(op, left, right))),
        None if holds(op, left, right) => kept,
        None => ABSENT,
    }
}

fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
}

impl Evaluation<'_> {
    pub(super) fn binary(&mut self, binary: &Binary, span: Span, grid: Grid) -> Result<Value, QueryError> {
        let left = self.eval(&binary.lhs, grid)?;
        let right = self.eval(&binary.rhs, grid)?;
        let op = binary.op;
        match (left, right) {
            (Value::Scalar(_), Value::Scalar(_)) if is_trim(op) => {
                Err(QueryError::Execution(format!("operator {:?} not allowed for Scalar operations", op.symbol())))
            }
            (Value::Scalar(left), Value::Scalar(right)) => {
                Ok(Value::Scalar(left.zip(right, |left, right| element(op, left, right, left, true))))
            }
            (Value::Vector(columns), Value::Scalar(scalar)) => {
                Ok(Value::Vector(self.with_scalar(binary, span, columns, &scalar, false)))
            }
            (Value::Scalar(scalar), Value::Vector(columns)) => {
                Ok(Value::Vector(self.with_scalar(binary, span, columns, &scalar, true)))
            }
            (Value::Vector(left), Value::Vector(right)) => {
                let held = (left.len() + right.len()).saturating_mul(grid.count);
                let columns = if op.is_set() {
                    self.set_operation(binary, left, right, grid)?
                } else {
                    if is_trim(op) {
                        self.remark_trim(op, span, !left.is_empty() && !right.is_empty());
                        return Ok(Value::Vector(Vec::new()));
                    }
                    self.match_vectors(binary, &left, &right, grid)?
                };
                self.release(held);
                Ok(Value::Vector(columns))
            }
            _ => Err(super::unexpected_type(&binary.lhs, crate::ast::ValueType::Vector)),
        }
    }

    /// Buckets can be cut from histograms only, and there are none among floats.
    fn remark_trim(&mut self, op: BinaryOp, span: Span, any: bool) {
        if any {
            self.annotations.incompatible_types("float", op.symbol(), "float", span);
        }
    }

    fn with_scalar(
        &mut self,
        binary: &Binary,
        span: Span,
        mut columns: Vec<Column>,
        scalar: &ScalarColumn,
        scalar_left: bool,
    ) -> Vec<Column> {
        let op = binary.op;
        if is_trim(op) {
            self.remark_trim(op, span, !columns.is_empty());
            return Vec::new();
        }
        let drop_name = changes_meaning(op) || binary.return_bool;
        for column in &mut columns {
            column.drop_name |= drop_name;
            for (step, value) in column.values.iter_mut().enumerate() {
                if is_absent(*value) {
                    continue;
                }
                let other = scalar.at(step);
                // A filter keeps the vector's value, on whatever side it stands.
                *value = if scalar_left {
                    element(op, other, *value, *value, binary.return_bool)
                } else {
                    element(op, *value, other, *value, binary.return_bool)
                };
            }
        }
        columns.retain(|column| !column.is_empty());
        columns
    }
}
