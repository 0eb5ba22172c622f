//! `label_replace` and `label_join`.

use std::sync::Arc;

use crate::ast::{Call, Node, NodeKind};
use crate::engine::QueryError;

use super::column::{Column, merge_equal, with_label};
use super::{Evaluation, Grid};

use ers_model::METRIC_NAME;

/// Largest compiled form of a pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The value of an argument that must be a literal string.
pub(super) fn string_arg(node: &Node) -> Result<String, QueryError> {
    match &node.unwrap_parens().kind {
        NodeKind::String(literal) => Ok(literal.text().into_owned()),
        _ => Err(QueryError::Execution(format!("expected a string literal, got {node}"))),
    }
}

/// A label's name from an argument; refused when it is empty or not UTF-8.
pub(super) fn label_arg(node: &Node, refused: impl Fn(&str) -> String) -> Result<String, QueryError> {
    let name = string_arg(node)?;
    let NodeKind::String(literal) = &node.unwrap_parens().kind else { return Ok(name) };
    if name.is_empty() || std::str::from_utf8(&literal.bytes).is_err() {
        return Err(QueryError::Execution(refused(&name)));
    }
    Ok(name)
}

impl Evaluation<'_> {
    pub(super) fn label_replace(&mut self, call: &Call, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let (replacement, source, pattern) =
            (string_arg(&call.args[2])?, string_arg(&call.args[3])?, string_arg(&call.args[4])?);
        let regex = regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(MAX_PATTERN_BYTES)
            .build()
            .map_err(|_| QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        let target =
            label_arg(&call.args[1], |name| format!("invalid destination label name in label_replace(): {name}"))?;
        let mut columns = self.vector(&call.args[0], grid)?;
        let mut value = String::new();
        for column in &mut columns {
            let Some(found) = regex.captures(column.labels.get(&source).unwrap_or("")) else { continue };
            value.clear();
            expand(&replacement, &found, &mut value);
            rename(column, &target, &value);
        }
        merge_equal(columns)
    }

    pub(super) fn label_join(&mut self, call: &Call, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let separator = string_arg(&call.args[2])?;
        let sources: Vec<String> = call.args[3..]
            .iter()
            .map(|arg| label_arg(arg, |name| format!("invalid source label name in label_join(): {name}")))
            .collect::<Result<_, _>>()?;
        let target =
            label_arg(&call.args[1], |name| format!("invalid destination label name in label_join(): {name}"))?;
        let mut columns = self.vector(&call.args[0], grid)?;
        for column in &mut columns {
            let values: Vec<&str> = sources.iter().map(|name| column.labels.get(name).unwrap_or("")).collect();
            let value = values.join(&separator);
            rename(column, &target, &value);
        }
        merge_equal(columns)
    }
}

fn rename(column: &mut Column, target: &str, value: &str) {
    column.labels = Arc::new(with_label(&column.labels, target, value));
    if target == METRIC_NAME {
        // A name given on purpose stays.
        column.drop_name = false;
    }
}

/// Go's `Expand`: `$1`, `${1}`, `$name`, `${name}`, `$$`; what names no group is empty, what is malformed stays.
fn expand(template: &str, found: &regex::Captures<'_>, out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let word = |text: &str| text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
        let (name, after) = match rest.strip_prefix('{') {
            Some(inner) => {
                let end = word(inner);
                if end == 0 || !inner[end..].starts_with('}') {
                    out.push('$');
                    continue;
                }
                (&inner[..end], &inner[end + 1..])
            }
            None => {
                let end = word(rest);
                if end == 0 {
                    out.push('$');
                    continue;
                }
                (&rest[..end], &rest[end..])
            }
        };
        let group = match name.parse::<usize>() {
            Ok(number) => found.get(number),
            Err(_) => found.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_expand_as_in_go() {
        let regex = regex::Regex::new("(?P<head>[a-z]+)-([0-9]+)").unwrap();
        let found = regex.captures("abc-12").unwrap();
        for (template, expect) in [
            ("$1/$2", "abc/12"),
            ("${head}x", "abcx"),
            ("$headx", ""),
            ("$1x", ""),
            ("a$$b", "a$b"),
            ("100$", "100$"),
            ("${", "${"),
            ("$9", ""),
        ] {
            let mut out = String::new();
            expand(template, &found, &mut out);
            assert_eq!(out, expect, "{template}");
        }
    }
}
