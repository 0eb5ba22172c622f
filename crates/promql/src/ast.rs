//! The syntax tree. Every node carries the byte range of the query that it came from.

use std::borrow::Cow;
use std::sync::Arc;

use crate::functions::Function;
use crate::source::LabelMatcher;

/// A byte range of the query text, end excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Span { start, end }
    }

    /// From the start of this range to the end of the other.
    pub fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end }
    }

    /// `line:column` of the start, both from 1, the column in bytes, as Prometheus counts.
    pub fn position(self, text: &str) -> Position<'_> {
        Position { span: self, text }
    }
}

/// Prints as `line:column`.
pub struct Position<'a> {
    span: Span,
    text: &'a str,
}

impl Position<'_> {
    /// Line and column, both from 1; none when the text is empty or the range lies outside of it.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        if self.text.is_empty() || self.span.start > self.text.len() {
            return None;
        }
        let before = &self.text.as_bytes()[..self.span.start];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Some((line, self.span.start - line_start + 1))
    }
}

impl std::fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line_column() {
            Some((line, column)) => write!(f, "{line}:{column}"),
            None => f.write_str("unknown position"),
        }
    }
}

/// A parsed and type-checked query. It keeps its text, since annotations name places in it. Prints in canonical form.
#[derive(Clone, Debug)]
pub struct Expr {
    pub(crate) text: Arc<str>,
    pub(crate) root: Node,
    /// What every series that is read must match besides.
    pub(crate) enforced: Vec<LabelMatcher>,
}

impl Expr {
    /// The query as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn root(&self) -> &Node {
        &self.root
    }

    /// For rewriting; positions still refer to the text as it was written, and types must stay what they are.
    pub fn root_mut(&mut self) -> &mut Node {
        &mut self.root
    }

    pub fn value_type(&self) -> ValueType {
        self.root.value_type()
    }

    /// All selectors of the query, in the order in which they were written.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        self.root.visit(&mut |node| match &node.kind {
            NodeKind::Vector(selector) => found.push(selector),
            NodeKind::Matrix(matrix) => found.push(&matrix.selector),
            _ => {}
        });
        found
    }

    /// Whatever the query asks for, only series that match these too are read. This holds where series are read, so that
    /// implicit selectors (`info()`) obey it, and it changes nothing else: not the labels of `absent()`, not how it prints.
    pub fn enforce(&mut self, matchers: &[LabelMatcher]) {
        self.enforced.extend_from_slice(matchers);
    }
}

/// The type of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// As in the HTTP API.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }

    /// As in the documentation and in messages.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    pub kind: NodeKind,
}

#[derive(Clone, Debug)]
pub enum NodeKind {
    Number(NumberLiteral),
    String(StringLiteral),
    Vector(VectorSelector),
    Matrix(Box<MatrixSelector>),
    Subquery(Box<Subquery>),
    Call(Call),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Unary(Unary),
    Paren(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberLiteral {
    pub value: f64,
    /// Written as a duration (`5m`), and printed so.
    pub duration: bool,
}

/// The bytes of a string literal: escapes such as `\xc5` can make it invalid UTF-8, which functions then refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringLiteral {
    pub bytes: Box<[u8]>,
}

impl StringLiteral {
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// The `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the Unix epoch.
    Timestamp(i64),
    Start,
    End,
}

/// A length of time: a literal, or an expression over `step()` and `range()` that is computed when the query runs.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationValue {
    Millis(i64),
    Expr(DurationExpr),
}

#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    pub span: Span,
    pub kind: DurationKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// In seconds.
    Number(NumberLiteral),
    /// The step of a range query, zero for an instant query.
    Step,
    /// The length of a range query, zero for an instant query.
    Range,
    Negative(Box<DurationExpr>),
    Paren(Box<DurationExpr>),
    Binary(DurationOp, Box<DurationExpr>, Box<DurationExpr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

/// `offset` and `@`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    pub offset: Option<DurationValue>,
    pub at: Option<At>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The name written before the braces; the last matcher then repeats it.
    pub name: Option<Box<str>>,
    pub matchers: Vec<LabelMatcher>,
    pub timing: Timing,
    pub extension: Option<RangeExtension>,
    /// Second argument of `info()`: may match everything.
    pub(crate) allow_empty: bool,
}

/// How a range looks at samples beyond its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeExtension {
    Anchored,
    Smoothed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub selector_span: Span,
    pub range: DurationValue,
}

#[derive(Clone, Debug)]
pub struct Subquery {
    pub expr: Node,
    pub range: DurationValue,
    /// None: the engine's default resolution.
    pub step: Option<DurationValue>,
    pub timing: Timing,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub function: &'static Function,
    pub args: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    pub fn takes_parameter(self) -> bool {
        matches!(
            self,
            AggregateOp::Topk
                | AggregateOp::Bottomk
                | AggregateOp::CountValues
                | AggregateOp::Quantile
                | AggregateOp::Limitk
                | AggregateOp::LimitRatio
        )
    }

    pub fn name(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Node,
    pub param: Option<Node>,
    pub grouping: Vec<Box<str>>,
    pub without: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `</`: keep a histogram's buckets below a value.
    TrimUpper,
    /// `>/`: keep a histogram's buckets above a value.
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Equal
                | BinaryOp::NotEqual
                | BinaryOp::Less
                | BinaryOp::LessEqual
                | BinaryOp::Greater
                | BinaryOp::GreaterEqual
        )
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    ManyToMany,
}

impl Cardinality {
    pub fn name(self) -> &'static str {
        match self {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        }
    }
}

/// How two vectors' series are paired.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    pub labels: Vec<Box<str>>,
    /// `on(labels)` rather than `ignoring(labels)`.
    pub on: bool,
    /// Labels taken over from the side of the one.
    pub include: Vec<Box<str>>,
    /// Value for a series that only the right side has.
    pub fill_left: Option<f64>,
    /// Value for a series that only the left side has.
    pub fill_right: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Node,
    pub rhs: Node,
    /// A comparison gives 0 or 1 rather than filtering.
    pub return_bool: bool,
    /// Only between two vectors.
    pub matching: Option<VectorMatching>,
}

#[derive(Clone, Debug)]
pub struct Unary {
    pub negative: bool,
    pub expr: Box<Node>,
}

impl Node {
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            NodeKind::Number(_) => ValueType::Scalar,
            NodeKind::String(_) => ValueType::String,
            NodeKind::Vector(_) | NodeKind::Aggregate(_) => ValueType::Vector,
            NodeKind::Matrix(_) | NodeKind::Subquery(_) => ValueType::Matrix,
            NodeKind::Call(call) => call.function.returns,
            NodeKind::Binary(binary) => {
                if binary.lhs.value_type() == ValueType::Scalar && binary.rhs.value_type() == ValueType::Scalar {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
            NodeKind::Unary(unary) => unary.expr.value_type(),
            NodeKind::Paren(inner) => inner.value_type(),
        }
    }

    /// The node inside any parentheses.
    pub fn unwrap_parens(&self) -> &Node {
        let mut node = self;
        while let NodeKind::Paren(inner) = &node.kind {
            node = inner;
        }
        node
    }

    /// Calls for this node and all below it, parents first, in the order of the text.
    pub fn visit<'a>(&'a self, call: &mut impl FnMut(&'a Node)) {
        call(self);
        match &self.kind {
            NodeKind::Number(_) | NodeKind::String(_) | NodeKind::Vector(_) | NodeKind::Matrix(_) => {}
            NodeKind::Subquery(subquery) => subquery.expr.visit(call),
            NodeKind::Call(function) => function.args.iter().for_each(|arg| arg.visit(call)),
            NodeKind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    param.visit(call);
                }
                aggregate.expr.visit(call);
            }
            NodeKind::Binary(binary) => {
                binary.lhs.visit(call);
                binary.rhs.visit(call);
            }
            NodeKind::Unary(unary) => unary.expr.visit(call),
            NodeKind::Paren(inner) => inner.visit(call),
        }
    }

    /// As [`Node::visit`], for changes.
    pub fn visit_mut(&mut self, call: &mut impl FnMut(&mut Node)) {
        call(self);
        match &mut self.kind {
            NodeKind::Number(_) | NodeKind::String(_) | NodeKind::Vector(_) | NodeKind::Matrix(_) => {}
            NodeKind::Subquery(subquery) => subquery.expr.visit_mut(call),
            NodeKind::Call(function) => function.args.iter_mut().for_each(|arg| arg.visit_mut(call)),
            NodeKind::Aggregate(aggregate) => {
                if let Some(param) = &mut aggregate.param {
                    param.visit_mut(call);
                }
                aggregate.expr.visit_mut(call);
            }
            NodeKind::Binary(binary) => {
                binary.lhs.visit_mut(call);
                binary.rhs.visit_mut(call);
            }
            NodeKind::Unary(unary) => unary.expr.visit_mut(call),
            NodeKind::Paren(inner) => inner.visit_mut(call),
        }
    }
}
