//! Selectors and lists of labels.

use crate::ast::{BinaryOp, Span, Timing, VectorSelector};
use crate::quote;
use crate::source::{LabelMatcher, MatchOp};

use super::token::{Keyword, TokenKind};
use super::{Fault, Parser, fault};

impl Parser<'_> {
    /// `name`, `{…}` or `name{…}`. Most keywords are names too where nothing else is possible.
    pub(super) fn vector_selector(&mut self) -> Result<VectorSelector, Fault> {
        let mut selector = VectorSelector {
            name: None,
            matchers: Vec::new(),
            timing: Timing::default(),
            extension: None,
            allow_empty: false,
        };
        if may_name_metric(self.kind()) {
            let span = self.advance();
            selector.name = Some(self.written(span).into());
        } else if self.kind() != TokenKind::LeftBrace {
            return self.unexpected_here();
        }
        if self.accept(TokenKind::LeftBrace).is_some() {
            self.matchers(&mut selector.matchers)?;
        }
        if let Some(name) = &selector.name {
            let span = self.last_span();
            selector.matchers.push(new_matcher(ers_model::METRIC_NAME, MatchOp::Equal, name, span)?);
        }
        Ok(selector)
    }

    /// Up to and with the closing brace.
    fn matchers(&mut self, matchers: &mut Vec<LabelMatcher>) -> Result<(), Fault> {
        loop {
            if self.accept(TokenKind::RightBrace).is_some() {
                return Ok(());
            }
            matchers.push(self.matcher()?);
            match self.kind() {
                TokenKind::Comma => {
                    self.advance();
                }
                TokenKind::RightBrace => {}
                _ => return self.unexpected("label matching", "\",\" or \"}\""),
            }
        }
    }

    fn matcher(&mut self) -> Result<LabelMatcher, Fault> {
        let kind = self.kind();
        if !matches!(kind, TokenKind::Identifier | TokenKind::String) {
            return self.unexpected("label matching", "identifier or \"}\"");
        }
        let quoted = kind == TokenKind::String;
        let name_span = self.advance();
        let written = self.written(name_span);
        let name = if quoted { utf8(quote::unquote(written), name_span)? } else { written.to_owned().into_boxed_str() };
        let op = match self.kind() {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Operator(BinaryOp::NotEqual) => MatchOp::NotEqual,
            TokenKind::RegexMatch => MatchOp::Regex,
            TokenKind::RegexNotMatch => MatchOp::NotRegex,
            TokenKind::Comma | TokenKind::RightBrace if quoted => {
                return new_matcher(ers_model::METRIC_NAME, MatchOp::Equal, &name, name_span);
            }
            _ if quoted => return self.unexpected("label matching", "\",\" or \"}\""),
            _ => return self.unexpected("label matching", "label matching operator"),
        };
        self.advance();
        if self.kind() != TokenKind::String {
            return self.unexpected("label matching", "string");
        }
        let value_span = self.advance();
        let value = String::from_utf8_lossy(&quote::unquote(self.written(value_span))).into_owned();
        new_matcher(&name, op, &value, name_span.to(value_span))
    }

    /// `(a, b)`, for `by`, `without`, `on`, `ignoring` and the groups.
    pub(super) fn grouping_labels(&mut self) -> Result<Vec<Box<str>>, Fault> {
        if self.accept(TokenKind::LeftParen).is_none() {
            return self.unexpected("grouping opts", "\"(\"");
        }
        let mut labels = Vec::new();
        if self.accept(TokenKind::RightParen).is_some() {
            return Ok(labels);
        }
        loop {
            labels.push(self.grouping_label()?);
            match self.kind() {
                TokenKind::RightParen => {
                    self.advance();
                    return Ok(labels);
                }
                TokenKind::Comma => {
                    self.advance();
                    if self.accept(TokenKind::RightParen).is_some() {
                        return Ok(labels);
                    }
                }
                _ => return self.unexpected("grouping opts", "\",\" or \")\""),
            }
        }
    }

    fn grouping_label(&mut self) -> Result<Box<str>, Fault> {
        let kind = self.kind();
        if kind == TokenKind::String {
            let span = self.advance();
            let name = utf8(quote::unquote(self.written(span)), span)?;
            if name.is_empty() {
                return fault(span, "invalid label name for grouping: \"\"");
            }
            return Ok(name);
        }
        let is_word =
            matches!(
                kind,
                TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) | TokenKind::Keyword(_)
            ) || matches!(kind, TokenKind::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::Atan2));
        // `without` alone is not in the grammar's list of words that may be labels.
        if !is_word || kind == TokenKind::Keyword(Keyword::Without) {
            return self.unexpected("grouping opts", "label");
        }
        let span = self.advance();
        Ok(self.written(span).into())
    }
}

fn new_matcher(name: &str, op: MatchOp, value: &str, span: Span) -> Result<LabelMatcher, Fault> {
    LabelMatcher::new(name, op, value).or_else(|message| fault(span, message))
}

fn utf8(bytes: Vec<u8>, span: Span) -> Result<Box<str>, Fault> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => fault(span, format!("invalid label name: {}", quote::quote(error.as_bytes()))),
    }
}

fn may_name_metric(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) => true,
        TokenKind::Operator(op) => op.is_set(),
        TokenKind::Keyword(keyword) => !matches!(
            keyword,
            Keyword::On | Keyword::Ignoring | Keyword::GroupLeft | Keyword::GroupRight | Keyword::Bool
        ),
        _ => false,
    }
}
