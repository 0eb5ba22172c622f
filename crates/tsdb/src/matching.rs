//! From matchers to series ids, on any index.

use std::ops::ControlFlow;

use ers_promql::source::{LabelMatcher, MatchOp};
use regex_syntax::hir::literal::Extractor;
use roaring::RoaringBitmap;

/// More literals than this are not looked up one by one.
const MAX_LITERALS: usize = 256;

/// Which series have which labels.
pub(crate) trait Postings {
    fn all(&self) -> RoaringBitmap;
    /// Series whose label has this value.
    fn with_value(&self, name: &str, value: &str) -> RoaringBitmap;
    /// All values of a label that begin with `prefix`, in order, each with its series.
    fn each_value(&self, name: &str, prefix: &str, each: &mut dyn FnMut(&str, &RoaringBitmap) -> ControlFlow<()>);
}

/// What a regular expression says without running it.
enum Shape {
    /// It matches these texts and no other.
    Literals(Vec<String>),
    /// All that it matches begins with this (perhaps empty) text.
    Prefix(String),
}

fn shape(pattern: &str) -> Shape {
    let unknown = Shape::Prefix(String::new());
    let Ok(hir) = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern) else {
        return unknown;
    };
    // Look-around inside (`a^b`, `\b`) makes the literals necessary but not sufficient.
    let exact_texts = hir.properties().look_set().is_empty();
    let literals = Extractor::new().limit_total(MAX_LITERALS).extract(&hir);
    let Some(found) = literals.literals() else { return unknown };
    let texts: Option<Vec<String>> =
        found.iter().map(|literal| String::from_utf8(literal.as_bytes().to_vec()).ok()).collect();
    if exact_texts
        && literals.is_exact()
        && let Some(texts) = texts
    {
        return Shape::Literals(texts);
    }
    let prefix = literals.longest_common_prefix().unwrap_or_default();
    // Cut in the middle of a character, the prefix is shortened to a whole one.
    let text = match std::str::from_utf8(prefix) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&prefix[..error.valid_up_to()]).unwrap_or_default(),
    };
    Shape::Prefix(text.to_owned())
}

/// Series with a value of the label for which the matcher says `wanted`.
fn with_matching(index: &dyn Postings, matcher: &LabelMatcher, wanted: bool) -> RoaringBitmap {
    let mut prefix = String::new();
    let positive = matches!(matcher.op, MatchOp::Equal | MatchOp::Regex) == wanted;
    match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual if positive => return index.with_value(&matcher.name, &matcher.value),
        MatchOp::Regex | MatchOp::NotRegex if positive => match shape(&matcher.value) {
            Shape::Literals(texts) => {
                let mut found = RoaringBitmap::new();
                for text in texts {
                    found |= index.with_value(&matcher.name, &text);
                }
                return found;
            }
            Shape::Prefix(text) => prefix = text,
        },
        _ => {}
    }
    let mut found = RoaringBitmap::new();
    index.each_value(&matcher.name, &prefix, &mut |value, series| {
        if matcher.matches(value) == wanted {
            found |= series;
        }
        ControlFlow::Continue(())
    });
    found
}

/// Ids of the series that match all matchers. Without any, all series.
pub(crate) fn resolve<'a>(
    index: &dyn Postings,
    matchers: impl Iterator<Item = &'a LabelMatcher> + Clone,
) -> RoaringBitmap {
    let mut found: Option<RoaringBitmap> = None;
    // Those that need the label to be there come first: they make the set small.
    for matcher in matchers.clone().filter(|matcher| !matcher.matches("")) {
        let with = with_matching(index, matcher, true);
        let both = match found {
            Some(found) => found & with,
            None => with,
        };
        if both.is_empty() {
            return both;
        }
        found = Some(both);
    }
    let mut found = found.unwrap_or_else(|| index.all());
    // A series without the label has the empty value and matches; those with a value that does not match go.
    for matcher in matchers.filter(|matcher| matcher.matches("")) {
        found -= with_matching(index, matcher, false);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_literals(pattern: &str, expect: &[&str]) {
        let Shape::Literals(mut texts) = shape(pattern) else { panic!("{pattern} has no literals") };
        texts.sort();
        assert_eq!(texts, expect, "{pattern}");
    }

    #[track_caller]
    fn check_prefix(pattern: &str, expect: &str) {
        let Shape::Prefix(prefix) = shape(pattern) else { panic!("{pattern} is taken for literals") };
        assert_eq!(prefix, expect, "{pattern}");
    }

    #[test]
    fn alternatives_are_looked_up_and_prefixes_narrow_the_search() {
        check_literals("a|b|cd", &["a", "b", "cd"]);
        check_literals("node_(cpu|memory)_x", &["node_cpu_x", "node_memory_x"]);
        check_literals("up", &["up"]);
        check_prefix("node_.*", "node_");
        check_prefix("node_cpu.+|node_mem.+", "node_");
        check_prefix(".*", "");
        check_prefix("(?i)abc.*", "");
        check_prefix("a|b.*", "");
        check_prefix("ab\\b", "ab");
        check_prefix("(", "");
    }
}
