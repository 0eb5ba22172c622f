//! Text to syntax tree: a Pratt parser over the lexer's tokens, then the type check.
//!
//! Stops at the first error, whose text and place are those of Prometheus.

mod check;
mod durations;
mod lexer;
mod selector;
mod token;

use std::sync::Arc;

use crate::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Expr, Node, NodeKind, NumberLiteral, Span,
    StringLiteral, Unary, VectorMatching,
};
use crate::duration::parse_duration;
use crate::functions::function;
use crate::quote;

use token::{Keyword, Token, TokenKind};

/// Longest query text, in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;
/// Deepest nesting of a query, where each further operand of a chain counts as one too. The evaluator recurses as deep.
pub const MAX_DEPTH: usize = 250;

/// Times lie within this of the epoch, 285 thousand years, so that offsets and ranges can be added without overflow.
pub const MAX_TIME_MS: i64 = 1 << 53;

/// Why a text is not a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}: parse error: {message}")]
pub struct ParseError {
    pub span: Span,
    pub message: String,
    /// `line:column`, or `unknown position`.
    pub position: String,
}

impl ParseError {
    fn new(text: &str, fault: Fault) -> Self {
        ParseError { span: fault.span, position: fault.span.position(text).to_string(), message: fault.message }
    }
}

/// An error before it knows the text.
#[derive(Debug)]
pub(crate) struct Fault {
    span: Span,
    message: String,
}

pub(crate) fn fault<T>(span: Span, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { span, message: message.into() })
}

/// Parses and type-checks a query.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let root = Parser::new(text)
        .and_then(|mut parser| parser.query())
        .and_then(|mut root| check::check(&mut root, text).map(|()| root))
        .map_err(|fault| ParseError::new(text, fault))?;
    Ok(Expr { text: Arc::from(text), root, enforced: Vec::new() })
}

/// Parses one selector without `offset` or `@`, as in the `match[]` parameter of the HTTP API.
pub fn parse_selector(text: &str) -> Result<Vec<crate::source::LabelMatcher>, ParseError> {
    let selector = Parser::new(text).and_then(|mut parser| {
        let start = parser.peek().span.start;
        let selector = parser.vector_selector()?;
        parser.expect_end()?;
        check::check_selector(&selector, Span::new(start, text.len()))?;
        Ok(selector)
    });
    selector.map(|selector| selector.matchers).map_err(|fault| ParseError::new(text, fault))
}

/// How tightly operators bind; larger is tighter.
const POWER_UNARY: u8 = 10;

fn binding_power(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 2,
        BinaryOp::And | BinaryOp::Unless => 4,
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterEqual
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 6,
        BinaryOp::Add | BinaryOp::Sub => 8,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => POWER_UNARY,
        BinaryOp::Pow => 12,
    }
}

/// Whether the labels are left out rather than kept, and the labels.
type Grouping = (bool, Vec<Box<str>>);

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// Aggregations that enclose the current token: an unexpected token is then reported as being "in aggregation".
    aggregations: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, Fault> {
        if text.len() > MAX_QUERY_BYTES {
            let message = format!("query of {} bytes is longer than {MAX_QUERY_BYTES} bytes", text.len());
            return fault(Span::default(), message);
        }
        Ok(Parser { text, tokens: lexer::lex(text), at: 0, aggregations: 0, depth: 0 })
    }

    fn peek(&self) -> &Token {
        // The last token is always an end or an error, and is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek_second(&self) -> TokenKind {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    fn kind(&self) -> TokenKind {
        self.peek().kind
    }

    fn advance(&mut self) -> Span {
        let span = self.peek().span;
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        span
    }

    fn accept(&mut self, kind: TokenKind) -> Option<Span> {
        (self.kind() == kind).then(|| self.advance())
    }

    fn written(&self, span: Span) -> &'a str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// The error for a token that can't stand here.
    fn unexpected<T>(&self, context: &str, expected: &str) -> Result<T, Fault> {
        let token = self.peek();
        if token.kind == TokenKind::Error {
            return fault(token.span, token.message.clone());
        }
        let mut message = format!("unexpected {}", token.describe(self.text));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        fault(token.span, message)
    }

    fn unexpected_here<T>(&self) -> Result<T, Fault> {
        self.unexpected(if self.aggregations > 0 { "aggregation" } else { "" }, "")
    }

    fn expect(&mut self, kind: TokenKind) -> Result<Span, Fault> {
        match self.accept(kind) {
            Some(span) => Ok(span),
            None => self.unexpected_here(),
        }
    }

    fn expect_end(&mut self) -> Result<(), Fault> {
        match self.kind() {
            TokenKind::End => Ok(()),
            _ => self.unexpected_here(),
        }
    }

    fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fault(self.peek().span, format!("expression is nested deeper than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    fn query(&mut self) -> Result<Node, Fault> {
        if self.kind() == TokenKind::End {
            return fault(Span::default(), "no expression found in input");
        }
        let node = self.expr(0)?;
        self.expect_end()?;
        Ok(node)
    }

    /// Everything that binds at least as tightly as `floor`.
    fn expr(&mut self, floor: u8) -> Result<Node, Fault> {
        let depth = self.depth;
        self.enter()?;
        let mut left = self.prefix()?;
        while let TokenKind::Operator(op) = self.kind() {
            let power = binding_power(op);
            if power < floor {
                break;
            }
            self.enter()?;
            self.advance();
            let (return_bool, matching) = self.binary_modifiers()?;
            // `^` is right-associative.
            let right = self.expr(if op == BinaryOp::Pow { power } else { power + 1 })?;
            let span = left.span.to(right.span);
            let binary = Binary { op, lhs: left, rhs: right, return_bool, matching: Some(matching) };
            left = Node { span, kind: NodeKind::Binary(Box::new(binary)) };
        }
        self.depth = depth;
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Node, Fault> {
        if let TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.kind() {
            // As tight as a multiplication: `-1^2` is `-(1^2)`.
            let start = self.advance();
            let mut operand = self.expr(POWER_UNARY + 1)?;
            let span = start.to(operand.span);
            let negative = op == BinaryOp::Sub;
            if let NodeKind::Number(number) = &mut operand.kind {
                if negative {
                    number.value = -number.value;
                }
                operand.span = span;
                return Ok(operand);
            }
            return Ok(Node { span, kind: NodeKind::Unary(Unary { negative, expr: Box::new(operand) }) });
        }
        let mut node = self.primary()?;
        loop {
            let before = self.at;
            node = self.postfix(node)?;
            if self.at == before {
                return Ok(node);
            }
            self.enter()?;
        }
    }

    /// One `[…]`, `offset`, `@`, `anchored` or `smoothed` after an expression, if there is one.
    fn postfix(&mut self, node: Node) -> Result<Node, Fault> {
        match self.kind() {
            TokenKind::LeftBracket => self.range_or_subquery(node),
            TokenKind::At => self.at_modifier(node),
            TokenKind::Keyword(Keyword::Offset) => self.offset_modifier(node),
            TokenKind::Keyword(Keyword::Anchored | Keyword::Smoothed) => self.extension(node),
            _ => Ok(node),
        }
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let span = self.peek().span;
        match self.kind() {
            TokenKind::Number | TokenKind::Duration => self.number(),
            TokenKind::String => {
                self.advance();
                let bytes = quote::unquote(self.written(span)).into();
                Ok(Node { span, kind: NodeKind::String(StringLiteral { bytes }) })
            }
            TokenKind::LeftParen => {
                self.advance();
                let inner = self.expr(0)?;
                let end = self.expect(TokenKind::RightParen)?;
                Ok(Node { span: span.to(end), kind: NodeKind::Paren(Box::new(inner)) })
            }
            TokenKind::Aggregate(op)
                if matches!(
                    self.peek_second(),
                    TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without)
                ) =>
            {
                self.aggregate(op)
            }
            TokenKind::Identifier
            | TokenKind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) if self.peek_second() == TokenKind::LeftParen => self.call(),
            _ => {
                let selector = self.vector_selector()?;
                let span = span.to(self.last_span());
                Ok(Node { span, kind: NodeKind::Vector(selector) })
            }
        }
    }

    fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].span
    }

    fn number(&mut self) -> Result<Node, Fault> {
        let literal = self.number_literal()?;
        Ok(Node { span: self.last_span(), kind: NodeKind::Number(literal) })
    }

    /// A number, or a duration as its seconds.
    fn number_literal(&mut self) -> Result<NumberLiteral, Fault> {
        let kind = self.kind();
        let span = self.advance();
        let written = self.written(span);
        if kind == TokenKind::Duration {
            return match parse_duration(written) {
                Ok(millis) => Ok(NumberLiteral { value: millis as f64 / 1000.0, duration: true }),
                Err(message) => fault(span, message),
            };
        }
        match parse_number(written) {
            Some(value) => Ok(NumberLiteral { value, duration: false }),
            None => {
                let quoted = quote::quote(written.as_bytes());
                let too_large = written.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+'));
                let reason = if too_large { "value out of range" } else { "invalid syntax" };
                fault(span, format!("error parsing number: strconv.ParseFloat: parsing {quoted}: {reason}"))
            }
        }
    }

    fn call(&mut self) -> Result<Node, Fault> {
        let name = self.advance();
        let (args, end) = self.call_body()?;
        let written = self.written(name);
        // Words that are keywords too (`step`, `max_of`) may be written in any case where they are keywords only.
        let Some(function) = function(written) else {
            return fault(name, format!("unknown function with name {}", quote::quote(written.as_bytes())));
        };
        Ok(Node { span: name.to(end), kind: NodeKind::Call(Call { function, args }) })
    }

    fn call_body(&mut self) -> Result<(Vec<Node>, Span), Fault> {
        self.expect(TokenKind::LeftParen)?;
        let mut args = Vec::new();
        if let Some(end) = self.accept(TokenKind::RightParen) {
            return Ok((args, end));
        }
        loop {
            args.push(self.expr(0)?);
            if let Some(end) = self.accept(TokenKind::RightParen) {
                return Ok((args, end));
            }
            let comma = self.expect(TokenKind::Comma)?;
            if self.kind() == TokenKind::RightParen {
                return fault(comma, "trailing commas not allowed in function call args");
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<Node, Fault> {
        let start = self.advance();
        self.aggregations += 1;
        let mut modifier = self.aggregate_modifier()?;
        if self.kind() != TokenKind::LeftParen {
            return self.unexpected_here();
        }
        let (mut args, mut end) = self.call_body()?;
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
            if modifier.is_some() {
                end = self.last_span();
            }
        }
        self.aggregations -= 1;
        let span = start.to(end);
        if args.is_empty() {
            return fault(span, "no arguments for aggregate expression provided");
        }
        let desired = if op.takes_parameter() { 2 } else { 1 };
        if args.len() != desired {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {desired}, got {}",
                args.len()
            );
            return fault(span, message);
        }
        let Some(expr) = args.pop() else {
            return fault(span, "no arguments for aggregate expression provided");
        };
        let (without, grouping) = modifier.unwrap_or_default();
        let aggregate = Aggregate { op, expr, param: args.pop(), grouping, without };
        Ok(Node { span, kind: NodeKind::Aggregate(Box::new(aggregate)) })
    }

    fn aggregate_modifier(&mut self) -> Result<Option<Grouping>, Fault> {
        let without = match self.kind() {
            TokenKind::Keyword(Keyword::By) => false,
            TokenKind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some((without, self.grouping_labels()?)))
    }

    /// `bool`, `on`, `ignoring`, `group_left`, `group_right`, `fill…` after an operator.
    fn binary_modifiers(&mut self) -> Result<(bool, VectorMatching), Fault> {
        let return_bool = self.accept(TokenKind::Keyword(Keyword::Bool)).is_some();
        let mut matching = VectorMatching {
            cardinality: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        if let TokenKind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.kind() {
            self.advance();
            matching.on = keyword == Keyword::On;
            matching.labels = self.grouping_labels()?;
            if let TokenKind::Keyword(group @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.kind() {
                self.advance();
                matching.cardinality =
                    if group == Keyword::GroupLeft { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.kind() == TokenKind::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        if self.accept(TokenKind::Keyword(Keyword::Fill)).is_some() {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            return Ok((return_bool, matching));
        }
        loop {
            match self.kind() {
                TokenKind::Keyword(Keyword::FillLeft) if matching.fill_left.is_none() => {
                    self.advance();
                    matching.fill_left = Some(self.fill_value()?);
                }
                TokenKind::Keyword(Keyword::FillRight) if matching.fill_right.is_none() => {
                    self.advance();
                    matching.fill_right = Some(self.fill_value()?);
                }
                _ => return Ok((return_bool, matching)),
            }
        }
    }

    fn fill_value(&mut self) -> Result<f64, Fault> {
        self.expect(TokenKind::LeftParen)?;
        let negative = match self.kind() {
            TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.advance();
                op == BinaryOp::Sub
            }
            _ => false,
        };
        if !matches!(self.kind(), TokenKind::Number | TokenKind::Duration) {
            return self.unexpected_here();
        }
        let value = self.number_literal()?.value;
        self.expect(TokenKind::RightParen)?;
        Ok(if negative { -value } else { value })
    }

    fn at_modifier(&mut self, node: Node) -> Result<Node, Fault> {
        self.advance();
        let at = match self.kind() {
            TokenKind::Keyword(keyword @ (Keyword::Start | Keyword::End)) => {
                self.advance();
                if self.accept(TokenKind::LeftParen).is_none() || self.accept(TokenKind::RightParen).is_none() {
                    return self.unexpected("@", "timestamp");
                }
                if keyword == Keyword::Start { At::Start } else { At::End }
            }
            _ => {
                let sign = match self.kind() {
                    TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                        self.advance();
                        if op == BinaryOp::Sub { -1.0 } else { 1.0 }
                    }
                    _ => 1.0,
                };
                if !matches!(self.kind(), TokenKind::Number | TokenKind::Duration) {
                    return self.unexpected("@", "timestamp");
                }
                let seconds = sign * self.number_literal()?.value;
                if !seconds.is_finite() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
                    let printed = crate::printer::fixed(seconds, 6);
                    return fault(node.span, format!("timestamp out of bounds for @ modifier: {printed}"));
                }
                At::Timestamp(((seconds * 1000.0).round() as i64).clamp(-MAX_TIME_MS, MAX_TIME_MS))
            }
        };
        self.set_at(node, at)
    }
}

/// A number as Go reads it: any base prefix, a leading zero for octal, underscores.
fn parse_number(written: &str) -> Option<f64> {
    let plain = written.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|value| value as f64);
    }
    if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return i64::from_str_radix(&lower, 8).ok().map(|value| value as f64);
    }
    match lower.as_str() {
        "inf" => Some(f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => match plain.parse::<i64>() {
            Ok(integer) => Some(integer as f64),
            Err(_) => plain.parse().ok().filter(|value: &f64| value.is_finite()),
        },
    }
}

#[cfg(test)]
mod tests;
