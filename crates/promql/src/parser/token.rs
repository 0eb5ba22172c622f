//! The tokens of a query.

use crate::ast::{AggregateOp, BinaryOp, Span};
use crate::quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    End,
    /// The lexer could not go on; the message lies in the token.
    Error,
    Comma,
    Colon,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `=`
    Assign,
    RegexMatch,
    RegexNotMatch,
    At,
    Number,
    Duration,
    String,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// The keyword that a word is, whatever its case.
pub(crate) fn keyword(word: &str) -> Option<TokenKind> {
    // Longest keyword: "limit_ratio", "count_values".
    if word.len() > 12 {
        return None;
    }
    let kind = match word.to_ascii_lowercase().as_str() {
        "and" => TokenKind::Operator(BinaryOp::And),
        "or" => TokenKind::Operator(BinaryOp::Or),
        "unless" => TokenKind::Operator(BinaryOp::Unless),
        "atan2" => TokenKind::Operator(BinaryOp::Atan2),
        "sum" => TokenKind::Aggregate(AggregateOp::Sum),
        "avg" => TokenKind::Aggregate(AggregateOp::Avg),
        "count" => TokenKind::Aggregate(AggregateOp::Count),
        "min" => TokenKind::Aggregate(AggregateOp::Min),
        "max" => TokenKind::Aggregate(AggregateOp::Max),
        "group" => TokenKind::Aggregate(AggregateOp::Group),
        "stddev" => TokenKind::Aggregate(AggregateOp::Stddev),
        "stdvar" => TokenKind::Aggregate(AggregateOp::Stdvar),
        "topk" => TokenKind::Aggregate(AggregateOp::Topk),
        "bottomk" => TokenKind::Aggregate(AggregateOp::Bottomk),
        "count_values" => TokenKind::Aggregate(AggregateOp::CountValues),
        "quantile" => TokenKind::Aggregate(AggregateOp::Quantile),
        "limitk" => TokenKind::Aggregate(AggregateOp::Limitk),
        "limit_ratio" => TokenKind::Aggregate(AggregateOp::LimitRatio),
        "offset" => TokenKind::Keyword(Keyword::Offset),
        "smoothed" => TokenKind::Keyword(Keyword::Smoothed),
        "anchored" => TokenKind::Keyword(Keyword::Anchored),
        "by" => TokenKind::Keyword(Keyword::By),
        "without" => TokenKind::Keyword(Keyword::Without),
        "on" => TokenKind::Keyword(Keyword::On),
        "ignoring" => TokenKind::Keyword(Keyword::Ignoring),
        "group_left" => TokenKind::Keyword(Keyword::GroupLeft),
        "group_right" => TokenKind::Keyword(Keyword::GroupRight),
        "fill" => TokenKind::Keyword(Keyword::Fill),
        "fill_left" => TokenKind::Keyword(Keyword::FillLeft),
        "fill_right" => TokenKind::Keyword(Keyword::FillRight),
        "bool" => TokenKind::Keyword(Keyword::Bool),
        "start" => TokenKind::Keyword(Keyword::Start),
        "end" => TokenKind::Keyword(Keyword::End),
        "step" => TokenKind::Keyword(Keyword::Step),
        "range" => TokenKind::Keyword(Keyword::Range),
        "max_of" => TokenKind::Keyword(Keyword::MaxOf),
        "min_of" => TokenKind::Keyword(Keyword::MinOf),
        "inf" | "nan" => TokenKind::Number,
        _ => return None,
    };
    Some(kind)
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub span: Span,
    /// Only of [`TokenKind::Error`].
    pub message: String,
}

impl Token {
    /// As messages name it.
    pub fn describe(&self, text: &str) -> String {
        let written = text.get(self.span.start..self.span.end).unwrap_or("");
        let quoted = || quote::quote(written.as_bytes());
        match self.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Error => self.message.clone(),
            TokenKind::Identifier => format!("identifier {}", quoted()),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quoted()),
            TokenKind::Number => format!("number {}", shortened(written)),
            TokenKind::Duration => format!("duration {}", shortened(written)),
            TokenKind::String => format!("string {}", shortened(written)),
            TokenKind::Operator(_) | TokenKind::At => format!("<op:{written}>"),
            TokenKind::Aggregate(_) => format!("<aggr:{written}>"),
            TokenKind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) => quoted(),
            TokenKind::Keyword(_) => format!("<{written}>"),
            _ => quoted(),
        }
    }
}

/// Quoted, and cut after ten characters.
fn shortened(written: &str) -> String {
    if written.len() <= 10 {
        return quote::quote(written.as_bytes());
    }
    let head: String = written.chars().take(10).collect();
    format!("{}...", quote::quote(head.as_bytes()))
}
