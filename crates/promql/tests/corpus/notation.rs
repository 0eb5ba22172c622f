//! The notation of series and their values: `metric{a="b"} 1 2+3x4 _ stale {{…}}`.

use ers_model::{Labels, STALE_NAN};
use ers_promql::parse_selector;

/// One value of a sequence.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    Omitted,
    Float(f64),
    /// A native histogram, whose content is not looked at yet.
    Histogram,
}

/// Labels are written as a selector is, except that they may be empty, which a selector may not.
pub fn parse_labels(text: &str) -> Labels {
    const FILLER: &str = "__filler__";
    let selector = match text.trim().strip_prefix('{') {
        Some(rest) => format!("{{{FILLER}=\"x\",{rest}"),
        None => text.to_owned(),
    };
    let matchers = parse_selector(&selector).unwrap_or_else(|error| panic!("series {text:?}: {error}"));
    let labels = matchers.into_iter().filter(|matcher| &*matcher.name != FILLER);
    Labels::from_pairs(labels.map(|matcher| (matcher.name, matcher.value)))
}

/// Where the labels end: at the closing brace outside of quotes, or at the first blank.
fn labels_end(line: &str) -> usize {
    let (mut quote, mut escaped, mut open) = (None, false, false);
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(end), '\\') if end != '`' => escaped = true,
            (Some(end), _) if end == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(character),
            (None, '{') => open = true,
            (None, '}') => return at + 1,
            (None, ' ' | '\t') if !open && !line[at..].trim_start().starts_with('{') => return at,
            (None, ' ' | '\t') if !open && line[at..].trim_start().starts_with("{{") => return at,
            _ => {}
        }
    }
    line.len()
}

pub fn parse_series(line: &str) -> (Labels, Vec<Entry>) {
    let end = labels_end(line);
    let labels = parse_labels(&line[..end]);
    let mut entries = Vec::new();
    let mut rest = line[end..].trim_start();
    while !rest.is_empty() {
        let item_end =
            if rest.starts_with("{{") { histogram_end(rest) } else { rest.find([' ', '\t']).unwrap_or(rest.len()) };
        push_item(&rest[..item_end], &mut entries);
        rest = rest[item_end..].trim_start();
    }
    (labels, entries)
}

/// `{{…}}`, `{{…}}x3`, `{{…}}+{{…}}x3`.
fn histogram_end(text: &str) -> usize {
    let mut end = text.find("}}").map_or(text.len(), |at| at + 2);
    while text[end..].starts_with("+{{") || text[end..].starts_with("-{{") {
        end += text[end..].find("}}").map_or(text.len() - end, |at| at + 2);
    }
    end + text[end..].find([' ', '\t']).unwrap_or(text.len() - end)
}

fn push_item(item: &str, entries: &mut Vec<Entry>) {
    let (base, times) = match item.rsplit_once('x') {
        Some((base, times)) if !times.is_empty() && times.bytes().all(|byte| byte.is_ascii_digit()) => {
            (base, Some(times.parse::<usize>().expect("a repetition is small")))
        }
        _ => (item, None),
    };
    if base.starts_with("{{") {
        return entries.extend(std::iter::repeat_n(Entry::Histogram, times.unwrap_or(0) + 1));
    }
    if base == "_" {
        return entries.extend(std::iter::repeat_n(Entry::Omitted, times.unwrap_or(1)));
    }
    // A sign after the first character that does not belong to an exponent starts the increment.
    let split = base
        .char_indices()
        .skip(1)
        .find(|(at, character)| matches!(character, '+' | '-') && !matches!(base.as_bytes()[at - 1], b'e' | b'E'));
    let (start, increment) = match split {
        Some((at, _)) => (&base[..at], number(&base[at..])),
        None => (base, 0.0),
    };
    let mut value = if start == "stale" { STALE_NAN } else { number(start) };
    entries.push(Entry::Float(value));
    for _ in 0..times.unwrap_or(0) {
        if start != "stale" {
            value += increment;
        }
        entries.push(Entry::Float(value));
    }
}

fn number(text: &str) -> f64 {
    parse_number(text).unwrap_or_else(|| panic!("value {text:?} is not a number"))
}

pub fn parse_number(text: &str) -> Option<f64> {
    let (sign, plain) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = plain.to_ascii_lowercase();
    let value = match lower.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()? as f64,
        None if lower == "infinity" => return None,
        None => lower.parse::<f64>().ok()?,
    };
    Some(sign * value)
}
