//! What follows a selector: ranges, subqueries, `offset`, `@`, and the arithmetic of durations inside of them.

use crate::ast::{
    At, BinaryOp, DurationExpr, DurationKind, DurationOp, DurationValue, MatrixSelector, Node, NodeKind, NumberLiteral,
    RangeExtension, Span, Subquery, Timing,
};

use super::token::{Keyword, TokenKind};
use super::{Fault, POWER_UNARY, Parser, binding_power, fault};

/// Seconds beyond which Prometheus' 64-bit nanoseconds overflow.
const MAX_SECONDS: f64 = 9_223_372_036.854_776;

const RANGE_EXPECTED: &str = "number, duration, step(), or range()";

impl Parser<'_> {
    pub(super) fn range_or_subquery(&mut self, node: Node) -> Result<Node, Fault> {
        let open = self.advance();
        let context = ("subquery or range selector", RANGE_EXPECTED);
        let range = self.positive_duration(context)?;
        match self.kind() {
            TokenKind::RightBracket => {
                let close = self.advance();
                self.matrix(node, range, open.to(close))
            }
            TokenKind::Colon => {
                self.advance();
                let step = match self.kind() {
                    TokenKind::RightBracket => None,
                    _ => Some(
                        self.positive_duration(("subquery selector", "number, duration, step(), range(), or \"]\""))?,
                    ),
                };
                let Some(close) = self.accept(TokenKind::RightBracket) else {
                    return self.unexpected("subquery selector", "\"]\"");
                };
                let span = node.span.to(close);
                let subquery = Subquery { expr: node, range, step, timing: Timing::default() };
                Ok(Node { span, kind: NodeKind::Subquery(Box::new(subquery)) })
            }
            _ => self.unexpected("subquery or range", "\":\" or \"]\""),
        }
    }

    fn matrix(&mut self, node: Node, range: DurationValue, brackets: Span) -> Result<Node, Fault> {
        let NodeKind::Vector(selector) = node.kind else {
            return fault(brackets, "ranges only allowed for vector selectors");
        };
        if selector.timing.offset.is_some() {
            return fault(brackets, "no offset modifiers allowed before range");
        }
        if selector.timing.at.is_some() {
            return fault(brackets, "no @ modifiers allowed before range");
        }
        let span = node.span.to(brackets);
        let matrix = MatrixSelector { selector, selector_span: node.span, range };
        Ok(Node { span, kind: NodeKind::Matrix(Box::new(matrix)) })
    }

    pub(super) fn extension(&mut self, mut node: Node) -> Result<Node, Fault> {
        let word = self.kind();
        self.advance();
        let (extension, name) = match word {
            TokenKind::Keyword(Keyword::Anchored) => (RangeExtension::Anchored, "anchored"),
            _ => (RangeExtension::Smoothed, "smoothed"),
        };
        let selector = match &mut node.kind {
            NodeKind::Vector(selector) => selector,
            NodeKind::Matrix(matrix) => &mut matrix.selector,
            NodeKind::Subquery(_) => {
                return fault(node.span, format!("{name} modifier is not supported for subqueries"));
            }
            _ => return fault(node.span, format!("{name} modifier not implemented")),
        };
        if selector.extension.is_some_and(|set| set != extension) {
            return fault(node.span, "anchored and smoothed modifiers cannot be used together");
        }
        selector.extension = Some(extension);
        Ok(node)
    }

    pub(super) fn set_at(&mut self, mut node: Node, at: At) -> Result<Node, Fault> {
        let Some(timing) = timing(&mut node) else {
            let message =
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return fault(node.span, message);
        };
        if timing.at.is_some() {
            return fault(node.span, "@ <timestamp> may not be set multiple times");
        }
        timing.at = Some(at);
        node.span = node.span.to(self.last_span());
        Ok(node)
    }

    pub(super) fn offset_modifier(&mut self, mut node: Node) -> Result<Node, Fault> {
        self.advance();
        let expr = self.offset_duration()?;
        let Some(timing) = timing(&mut node) else {
            let message =
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return fault(node.span, message);
        };
        if timing.offset.is_some() {
            return fault(node.span, "offset may not be set multiple times");
        }
        timing.offset = match value(expr) {
            // A zero offset is no offset, and may be followed by another one.
            DurationValue::Millis(0) => None,
            value => Some(value),
        };
        node.span = node.span.to(self.last_span());
        Ok(node)
    }

    /// Without parentheses an offset ends before any operator: `foo offset -2^2` is `(foo offset -2)^2`.
    fn offset_duration(&mut self) -> Result<DurationExpr, Fault> {
        let context = ("offset", RANGE_EXPECTED);
        let sign = match self.kind() {
            TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let span = self.advance();
                Some((span, op == BinaryOp::Sub))
            }
            TokenKind::LeftParen => return self.duration(0, context),
            _ => None,
        };
        let operand = match (self.kind(), sign) {
            (TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub), Some(_)) => self.duration(POWER_UNARY + 1, context)?,
            _ => self.duration_primary(context)?,
        };
        match sign {
            Some((span, negative)) => signed(operand, span, negative),
            None => Ok(operand),
        }
    }

    fn positive_duration(&mut self, context: (&str, &str)) -> Result<DurationValue, Fault> {
        let expr = self.duration(0, context)?;
        if let DurationKind::Number(number) = &expr.kind
            && number.value <= 0.0
        {
            return fault(expr.span, "duration must be greater than 0");
        }
        Ok(value(expr))
    }

    fn duration(&mut self, floor: u8, context: (&str, &str)) -> Result<DurationExpr, Fault> {
        let depth = self.depth;
        self.enter()?;
        let mut left = match self.kind() {
            TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let span = self.advance();
                let operand = self.duration(POWER_UNARY + 1, context)?;
                signed(operand, span, op == BinaryOp::Sub)?
            }
            _ => self.duration_primary(context)?,
        };
        while let TokenKind::Operator(operator) = self.kind() {
            let Some(op) = duration_op(operator) else { break };
            let power = binding_power(operator);
            if power < floor {
                break;
            }
            self.enter()?;
            let operator_span = self.advance();
            let right = self.duration(if op == DurationOp::Pow { power } else { power + 1 }, context)?;
            if matches!(op, DurationOp::Div | DurationOp::Mod)
                && matches!(&right.kind, DurationKind::Number(number) if number.value == 0.0)
            {
                let name = if op == DurationOp::Div { "division by zero" } else { "modulo by zero" };
                return fault(operator_span, name);
            }
            let span = left.span.to(right.span);
            left = DurationExpr { span, kind: DurationKind::Binary(op, Box::new(left), Box::new(right)) };
        }
        self.depth = depth;
        Ok(left)
    }

    fn duration_primary(&mut self, context: (&str, &str)) -> Result<DurationExpr, Fault> {
        let start = self.peek().span;
        match self.kind() {
            TokenKind::Number | TokenKind::Duration => {
                let number = self.number_literal()?;
                in_range(number.value, start)?;
                Ok(DurationExpr { span: start, kind: DurationKind::Number(number) })
            }
            TokenKind::Keyword(keyword @ (Keyword::Step | Keyword::Range)) => {
                self.advance();
                if self.accept(TokenKind::LeftParen).is_none() {
                    return self.unexpected(context.0, context.1);
                }
                let Some(end) = self.accept(TokenKind::RightParen) else {
                    return self.unexpected(context.0, context.1);
                };
                let kind = if keyword == Keyword::Step { DurationKind::Step } else { DurationKind::Range };
                Ok(DurationExpr { span: start.to(end), kind })
            }
            TokenKind::Keyword(keyword @ (Keyword::MaxOf | Keyword::MinOf)) => {
                self.advance();
                if self.accept(TokenKind::LeftParen).is_none() {
                    return self.unexpected(context.0, context.1);
                }
                let left = self.duration(0, context)?;
                if self.accept(TokenKind::Comma).is_none() {
                    return self.unexpected(context.0, context.1);
                }
                let right = self.duration(0, context)?;
                let Some(end) = self.accept(TokenKind::RightParen) else {
                    return self.unexpected(context.0, context.1);
                };
                let op = if keyword == Keyword::MaxOf { DurationOp::MaxOf } else { DurationOp::MinOf };
                let kind = DurationKind::Binary(op, Box::new(left), Box::new(right));
                Ok(DurationExpr { span: start.to(end), kind })
            }
            TokenKind::LeftParen => {
                self.advance();
                let inner = self.duration(0, context)?;
                let Some(end) = self.accept(TokenKind::RightParen) else {
                    return self.unexpected(context.0, context.1);
                };
                Ok(DurationExpr { span: start.to(end), kind: DurationKind::Paren(Box::new(inner)) })
            }
            _ => self.unexpected(context.0, context.1),
        }
    }
}

fn timing(node: &mut Node) -> Option<&mut Timing> {
    match &mut node.kind {
        NodeKind::Vector(selector) => Some(&mut selector.timing),
        NodeKind::Matrix(matrix) => Some(&mut matrix.selector.timing),
        NodeKind::Subquery(subquery) => Some(&mut subquery.timing),
        _ => None,
    }
}

fn duration_op(op: BinaryOp) -> Option<DurationOp> {
    match op {
        BinaryOp::Add => Some(DurationOp::Add),
        BinaryOp::Sub => Some(DurationOp::Sub),
        BinaryOp::Mul => Some(DurationOp::Mul),
        BinaryOp::Div => Some(DurationOp::Div),
        BinaryOp::Mod => Some(DurationOp::Mod),
        BinaryOp::Pow => Some(DurationOp::Pow),
        _ => None,
    }
}

fn in_range(seconds: f64, span: Span) -> Result<(), Fault> {
    if seconds.is_nan() || seconds.abs() > MAX_SECONDS {
        return fault(span, "duration out of range");
    }
    Ok(())
}

fn signed(operand: DurationExpr, sign: Span, negative: bool) -> Result<DurationExpr, Fault> {
    let span = sign.to(operand.span);
    let kind = match operand.kind {
        DurationKind::Number(number) => {
            let value = if negative { -number.value } else { number.value };
            DurationKind::Number(NumberLiteral { value, ..number })
        }
        kind if negative => DurationKind::Negative(Box::new(DurationExpr { span: operand.span, kind })),
        kind => kind,
    };
    Ok(DurationExpr { span, kind })
}

fn value(expr: DurationExpr) -> DurationValue {
    match &expr.kind {
        DurationKind::Number(number) => DurationValue::Millis(millis(number.value)),
        _ => DurationValue::Expr(expr),
    }
}

/// Rounded to nanoseconds, then cut to milliseconds, as Prometheus does.
fn millis(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}
