//! The type check, in the order in which Prometheus does it, so that the first error is the same.

use crate::ast::{Aggregate, AggregateOp, Binary, Call, Cardinality, Node, NodeKind, Span, ValueType, VectorSelector};
use crate::functions::{Arity, FunctionId};
use crate::quote::quote;

use super::{Fault, fault};

pub(super) fn check(node: &mut Node, text: &str) -> Result<(), Fault> {
    let span = node.span;
    match &mut node.kind {
        NodeKind::Number(_) | NodeKind::String(_) => Ok(()),
        NodeKind::Vector(selector) => check_selector(selector, span),
        NodeKind::Matrix(matrix) => check_selector(&matrix.selector, matrix.selector_span),
        NodeKind::Paren(inner) => check(inner, text),
        NodeKind::Unary(unary) => {
            check(&mut unary.expr, text)?;
            match unary.expr.value_type() {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                other => fault(
                    span,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                        other.documented()
                    ),
                ),
            }
        }
        NodeKind::Subquery(subquery) => {
            check(&mut subquery.expr, text)?;
            match subquery.expr.value_type() {
                ValueType::Vector => Ok(()),
                other => {
                    fault(span, format!("subquery is only allowed on instant vector, got {} instead", other.name()))
                }
            }
        }
        NodeKind::Aggregate(aggregate) => check_aggregate(aggregate, text),
        NodeKind::Binary(binary) => check_binary(binary, span, text),
        NodeKind::Call(call) => check_call(call, span, text),
    }
}

pub(super) fn check_selector(selector: &VectorSelector, span: Span) -> Result<(), Fault> {
    if let Some(name) = &selector.name {
        // The last matcher repeats the name before the braces.
        let inside = &selector.matchers[..selector.matchers.len().saturating_sub(1)];
        return match inside.iter().find(|matcher| &*matcher.name == ers_model::METRIC_NAME) {
            Some(matcher) => fault(
                span,
                format!(
                    "metric name must not be set twice: {} or {}",
                    quote(name.as_bytes()),
                    quote(matcher.value.as_bytes())
                ),
            ),
            None => Ok(()),
        };
    }
    if !selector.allow_empty && selector.matchers.iter().all(|matcher| matcher.matches("")) {
        return fault(span, "vector selector must contain at least one non-empty matcher");
    }
    Ok(())
}

fn expect_type(node: &mut Node, want: ValueType, context: &str, text: &str) -> Result<(), Fault> {
    check(node, text)?;
    let got = node.value_type();
    if got == want {
        return Ok(());
    }
    fault(node.span, format!("expected type {} in {context}, got {}", want.documented(), got.documented()))
}

fn check_aggregate(aggregate: &mut Aggregate, text: &str) -> Result<(), Fault> {
    expect_type(&mut aggregate.expr, ValueType::Vector, "aggregation expression", text)?;
    if let Some(param) = &mut aggregate.param {
        let want = if aggregate.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
        expect_type(param, want, "aggregation parameter", text)?;
    }
    Ok(())
}

fn check_binary(binary: &mut Binary, span: Span, text: &str) -> Result<(), Fault> {
    check(&mut binary.lhs, text)?;
    check(&mut binary.rhs, text)?;
    let (left, right) = (binary.lhs.value_type(), binary.rhs.value_type());
    let operator = operator_span(binary, text);
    if binary.return_bool && !binary.op.is_comparison() {
        return fault(operator, "bool modifier can only be used on comparison operators");
    }
    if binary.op.is_comparison() && !binary.return_bool && left == ValueType::Scalar && right == ValueType::Scalar {
        return fault(operator, "comparisons between scalars must use BOOL modifier");
    }
    let op = binary.op;
    let Some(matching) = &mut binary.matching else { return Ok(()) };
    if op.is_set() && matching.cardinality == Cardinality::OneToOne {
        matching.cardinality = Cardinality::ManyToMany;
    }
    if matching.on
        && let Some(twice) = matching.labels.iter().find(|label| matching.include.contains(label))
    {
        let label = quote(twice.as_bytes());
        return fault(operator, format!("label {label} must not occur in ON and GROUP clause at once"));
    }
    for (side, got) in [(&binary.lhs, left), (&binary.rhs, right)] {
        if !matches!(got, ValueType::Scalar | ValueType::Vector) {
            return fault(side.span, "binary expression must contain only scalar and instant vector types");
        }
    }
    let filling = matching.fill_left.is_some() || matching.fill_right.is_some();
    if left != ValueType::Vector || right != ValueType::Vector {
        if !matching.labels.is_empty() {
            return fault(span, "vector matching only allowed between instant vectors");
        }
        if filling {
            return fault(span, "filling in missing series only allowed between instant vectors");
        }
        binary.matching = None;
        if op.is_set() {
            let symbol = op.symbol();
            return fault(span, format!("set operator {symbol:?} not allowed in binary scalar expression"));
        }
        return Ok(());
    }
    if op.is_set() {
        if matches!(matching.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
            return fault(span, format!("no grouping allowed for {:?} operation", op.symbol()));
        }
        if filling {
            return fault(span, "filling in missing series not allowed for set operators");
        }
    }
    Ok(())
}

/// The operator with its modifiers, without the blanks around it.
fn operator_span(binary: &Binary, text: &str) -> Span {
    let (start, end) = (binary.lhs.span.end, binary.rhs.span.start.saturating_sub(1));
    let blank = |at: &usize| text.as_bytes().get(*at).is_some_and(u8::is_ascii_whitespace);
    let first = (start..end).find(|at| !blank(at)).unwrap_or(start);
    let last = (first..=end).rev().find(|at| !blank(at)).unwrap_or(end);
    Span::new(first, last)
}

fn check_call(call: &mut Call, span: Span, text: &str) -> Result<(), Fault> {
    let function = call.function;
    let name = quote(function.name.as_bytes());
    let (types, given) = (function.args.len(), call.args.len());
    match function.arity {
        Arity::Exact if types != given => {
            return fault(span, format!("expected {types} argument(s) in call to {name}, got {given}"));
        }
        Arity::Exact => {}
        Arity::Optional(_) | Arity::Any if given + 1 < types => {
            return fault(span, format!("expected at least {} argument(s) in call to {name}, got {given}", types - 1));
        }
        Arity::Optional(more) if given > types - 1 + more => {
            let most = types - 1 + more;
            return fault(span, format!("expected at most {most} argument(s) in call to {name}, got {given}"));
        }
        Arity::Optional(_) | Arity::Any => {}
    }
    if function.id == FunctionId::Info
        && let Some(labels) = call.args.get_mut(1)
    {
        let got = labels.value_type();
        if got != ValueType::Vector {
            let message = format!("expected type instant vector in call to function {name}, got {}", got.documented());
            return fault(span, message);
        }
        match &mut labels.kind {
            NodeKind::Vector(selector) if selector.name.is_some() => {
                return fault(labels.span, "expected label selectors only, got vector selector instead");
            }
            NodeKind::Vector(selector) => selector.allow_empty = true,
            _ => return fault(labels.span, "expected label selectors only"),
        }
    }
    for (at, arg) in call.args.iter_mut().enumerate() {
        let Some(want) = function.args.get(at).or_else(|| function.args.last()) else { break };
        expect_type(arg, *want, &format!("call to function {name}"), text)?;
    }
    Ok(())
}
