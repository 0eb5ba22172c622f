//! The parser: one pass over the bytes, borrowing everything.

use super::{Format, Kind, Limits, ParseError, Problem};
use std::borrow::Cow;

/// One line that means something. Comments and blank lines are skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    /// `# TYPE name kind`
    Type {
        name: &'a str,
        kind: Kind,
    },
    /// `# HELP name text`, the text still escaped.
    Help {
        name: &'a str,
        text: &'a str,
    },
    /// `# UNIT name unit`, OpenMetrics only.
    Unit {
        name: &'a str,
        unit: &'a str,
    },
    Sample(SampleRef<'a>),
}

/// One sample line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleRef<'a> {
    /// The series as it stands in the body, `name{a="b"}`, checked for syntax.
    pub series: &'a str,
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

/// Name and labels of a checked series, labels in the order of the body.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    text: &'a str,
    at: usize,
    name_pending: bool,
}

/// Takes a series apart whose syntax was checked by a [`Parser`] or that a [`super::Writer`] wrote.
///
/// Yields `(name, value)` pairs, the metric's name as `__name__`. Text that is no series yields what could be read.
pub fn parse_series(series: &str) -> Labels<'_> {
    Labels { text: series, at: 0, name_pending: true }
}

impl<'a> Iterator for Labels<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        if self.name_pending {
            self.name_pending = false;
            let end = memchr_brace(bytes);
            self.at = end + 1;
            if end > 0 {
                return Some((Cow::Borrowed("__name__"), Cow::Borrowed(self.text[..end].trim_end())));
            }
        }
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b',')) {
            self.at += 1;
        }
        match bytes.get(self.at)? {
            b'}' => None,
            b'"' => {
                let name = self.quoted()?;
                while matches!(bytes.get(self.at), Some(b' ' | b'\t')) {
                    self.at += 1;
                }
                if bytes.get(self.at) != Some(&b'=') {
                    return Some((Cow::Borrowed("__name__"), name));
                }
                self.value().map(|value| (name, value))
            }
            _ => {
                let start = self.at;
                while bytes.get(self.at).is_some_and(|byte| is_name_byte(*byte)) {
                    self.at += 1;
                }
                let name = &self.text[start..self.at];
                self.value().map(|value| (Cow::Borrowed(name), value))
            }
        }
    }
}

impl<'a> Labels<'a> {
    fn value(&mut self) -> Option<Cow<'a, str>> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'=')) {
            self.at += 1;
        }
        (bytes.get(self.at) == Some(&b'"')).then(|| self.quoted()).flatten()
    }

    fn quoted(&mut self) -> Option<Cow<'a, str>> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            match bytes.get(end)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        self.at = end + 1;
        let raw = self.text.get(start..end)?;
        Some(if escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) })
    }
}

fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

fn memchr_brace(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'{').unwrap_or(bytes.len())
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b':'
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Reads a body line by line.
#[derive(Debug)]
pub struct Parser<'a> {
    text: &'a str,
    format: Format,
    limits: Limits,
    at: usize,
    line: usize,
    line_start: usize,
    eof_seen: bool,
    /// Where the label names of the current series are, for finding duplicates.
    names: Vec<(usize, usize)>,
}

impl<'a> Parser<'a> {
    /// Fails when the body is not UTF-8.
    pub fn new(body: &'a [u8], format: Format, limits: Limits) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let before = &body[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            ParseError { line, column: before.len() - line_start + 1, problem: Problem::NotUtf8 }
        })?;
        Ok(Parser { text, format, limits, at: 0, line: 0, line_start: 0, eof_seen: false, names: Vec::new() })
    }

    /// The next entry, or `None` at the end. After an error the parser should be dropped.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            let bytes = self.text.as_bytes();
            if self.at >= bytes.len() {
                self.line_start = self.at;
                self.line += 1;
                if self.format == Format::OpenMetrics && !self.eof_seen {
                    return Err(self.error(self.at, Problem::NoEof));
                }
                return Ok(None);
            }
            self.line += 1;
            self.line_start = self.at;
            if self.eof_seen {
                return Err(self.error(self.at, Problem::AfterEof));
            }
            let window = &bytes[self.at..bytes.len().min(self.at + self.limits.max_line_bytes + 1)];
            let end = match window.iter().position(|byte| *byte == b'\n') {
                Some(length) => self.at + length,
                None if window.len() > self.limits.max_line_bytes => {
                    return Err(self.error(self.at, Problem::LineTooLong(self.limits.max_line_bytes)));
                }
                None => return Err(self.error(bytes.len(), Problem::NoFinalNewline)),
            };
            let start = self.at;
            self.at = end + 1;
            // Carriage returns are tolerated at the end of a line, as Prometheus' lexer skips them.
            let stop = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
            let first = self.skip_blank(start, stop);
            if first == stop {
                if self.format == Format::OpenMetrics {
                    return Err(self.error(start, Problem::BlankLine));
                }
                continue;
            }
            if bytes[first] == b'#' {
                match self.comment(first, stop)? {
                    Some(entry) => return Ok(Some(entry)),
                    None => continue,
                }
            }
            return self.sample(first, stop).map(|sample| Some(Entry::Sample(sample)));
        }
    }

    fn error(&self, at: usize, problem: Problem) -> ParseError {
        ParseError { line: self.line, column: at.saturating_sub(self.line_start) + 1, problem }
    }

    fn skip_blank(&self, mut at: usize, stop: usize) -> usize {
        let bytes = self.text.as_bytes();
        while at < stop && is_blank(bytes[at]) {
            at += 1;
        }
        at
    }

    fn word(&self, start: usize, stop: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = start;
        while at < stop && !is_blank(bytes[at]) {
            at += 1;
        }
        at
    }

    /// A line that begins with `#`: metadata, the end mark, or a comment.
    fn comment(&mut self, first: usize, stop: usize) -> Result<Option<Entry<'a>>, ParseError> {
        let bytes = self.text.as_bytes();
        let keyword_start = self.skip_blank(first + 1, stop);
        let keyword_end = self.word(keyword_start, stop);
        let keyword = &bytes[keyword_start..keyword_end];
        if keyword == b"EOF" && self.format == Format::OpenMetrics && keyword_end == stop {
            self.eof_seen = true;
            return Ok(None);
        }
        if keyword != b"TYPE" && keyword != b"HELP" && keyword != b"UNIT" {
            return Ok(None);
        }
        let name_start = self.skip_blank(keyword_end, stop);
        let (name, name_end) = self.family_name(name_start, stop)?;
        let rest_start = self.skip_blank(name_end, stop);
        let rest = self.text[rest_start..stop].trim_end_matches([' ', '\t']);
        Ok(match keyword {
            b"TYPE" => match Kind::parse(rest.as_bytes()) {
                Some(kind) => Some(Entry::Type { name, kind }),
                None => return Err(self.error(rest_start, Problem::UnknownType)),
            },
            b"HELP" => Some(Entry::Help { name, text: rest }),
            _ => Some(Entry::Unit { name, unit: rest }),
        })
    }

    /// A name in a metadata line, bare or (UTF-8 names) in quotes.
    fn family_name(&self, start: usize, stop: usize) -> Result<(&'a str, usize), ParseError> {
        let bytes = self.text.as_bytes();
        if start < stop && bytes[start] == b'"' {
            let end = self.skip_quoted(start, stop)?;
            return Ok((&self.text[start + 1..end - 1], end));
        }
        let end = self.skip_name(start, stop);
        if end == start {
            return Err(self.error(start, Problem::ExpectedName));
        }
        Ok((&self.text[start..end], end))
    }

    fn skip_name(&self, start: usize, stop: usize) -> usize {
        let bytes = self.text.as_bytes();
        if start >= stop || !is_name_start(bytes[start]) {
            return start;
        }
        let mut at = start + 1;
        while at < stop && is_name_byte(bytes[at]) {
            at += 1;
        }
        at
    }

    /// From an opening quote to just behind the closing one.
    fn skip_quoted(&self, start: usize, stop: usize) -> Result<usize, ParseError> {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        while at < stop {
            match bytes[at] {
                b'"' => return Ok(at + 1),
                b'\\' => {
                    if at + 1 >= stop || !matches!(bytes[at + 1], b'\\' | b'"' | b'n') {
                        return Err(self.error(at, Problem::BadEscape));
                    }
                    at += 2;
                }
                _ => at += 1,
            }
        }
        Err(self.error(start, Problem::UnclosedQuote))
    }

    fn sample(&mut self, first: usize, stop: usize) -> Result<SampleRef<'a>, ParseError> {
        let bytes = self.text.as_bytes();
        let name_end = self.skip_name(first, stop);
        let brace = self.skip_blank(name_end, stop);
        let has_braces = brace < stop && bytes[brace] == b'{';
        if name_end == first && !has_braces {
            return Err(self.error(first, Problem::ExpectedName));
        }
        let series_end = if has_braces { self.labels(brace, stop, name_end > first)? } else { name_end };
        let series = &self.text[first..series_end];

        let value_start = self.skip_blank(series_end, stop);
        if value_start == series_end && !has_braces {
            return Err(self.error(series_end, Problem::ExpectedSpace));
        }
        let value_end = self.word(value_start, stop);
        let value = parse_value(&bytes[value_start..value_end])
            .ok_or_else(|| self.error(value_start.min(stop), Problem::BadValue))?;

        let mut at = self.skip_blank(value_end, stop);
        let mut timestamp_ms = None;
        if at < stop && bytes[at] != b'#' {
            let end = self.word(at, stop);
            timestamp_ms = Some(self.timestamp(at, end)?);
            at = self.skip_blank(end, stop);
        }
        // In OpenMetrics an exemplar may follow; ERS does not store them. In the text format nothing may.
        if at < stop && !(self.format == Format::OpenMetrics && bytes[at] == b'#') {
            return Err(self.error(at, Problem::TrailingText));
        }
        Ok(SampleRef { series, value, timestamp_ms })
    }

    fn timestamp(&self, start: usize, end: usize) -> Result<i64, ParseError> {
        let word = &self.text[start..end];
        let parsed = match self.format {
            Format::Text => word.parse::<i64>().ok(),
            Format::OpenMetrics => word
                .parse::<f64>()
                .ok()
                .map(|seconds| seconds * 1000.0)
                .filter(|milliseconds| milliseconds.abs() < 9.0e18)
                .map(|milliseconds| milliseconds.round() as i64),
        };
        parsed.ok_or_else(|| self.error(start, Problem::BadTimestamp))
    }

    /// From the opening brace to just behind the closing one.
    fn labels(&mut self, open: usize, stop: usize, mut named: bool) -> Result<usize, ParseError> {
        let bytes = self.text.as_bytes();
        self.names.clear();
        let mut at = self.skip_blank(open + 1, stop);
        loop {
            if at < stop && bytes[at] == b'}' {
                if !named {
                    return Err(self.error(open, Problem::ExpectedName));
                }
                return Ok(at + 1);
            }
            let quoted_name = at < stop && bytes[at] == b'"';
            let (name_start, name_end, after) = if quoted_name {
                let end = self.skip_quoted(at, stop)?;
                (at + 1, end - 1, end)
            } else {
                let end = self.skip_name(at, stop);
                if end == at {
                    return Err(self.error(at, Problem::ExpectedLabelName));
                }
                (at, end, end)
            };
            let equals = self.skip_blank(after, stop);
            let mut next = equals;
            if equals < stop && bytes[equals] == b'=' {
                let quote = self.skip_blank(equals + 1, stop);
                if quote >= stop || bytes[quote] != b'"' {
                    return Err(self.error(quote, Problem::ExpectedQuote));
                }
                next = self.skip_quoted(quote, stop)?;
                self.remember_label(name_start, name_end)?;
            } else if quoted_name && !named {
                named = true;
            } else {
                return Err(self.error(equals, Problem::ExpectedEquals));
            }
            next = self.skip_blank(next, stop);
            if next < stop && bytes[next] == b',' {
                at = self.skip_blank(next + 1, stop);
            } else if next < stop && bytes[next] == b'}' {
                at = next;
            } else {
                return Err(self.error(next, Problem::ExpectedCommaOrBrace));
            }
        }
    }

    fn remember_label(&mut self, start: usize, end: usize) -> Result<(), ParseError> {
        if self.names.len() >= self.limits.max_labels {
            return Err(self.error(start, Problem::TooManyLabels(self.limits.max_labels)));
        }
        let name = &self.text[start..end];
        // A second name of the metric inside the braces would be a second `__name__`.
        if name == "__name__" || self.names.iter().any(|(from, to)| &self.text[*from..*to] == name) {
            return Err(self.error(start, Problem::DuplicateLabel));
        }
        self.names.push((start, end));
        Ok(())
    }
}

/// A Go-style float. Whole numbers below 2^53, nearly every sample there is, skip the general parser.
fn parse_value(word: &[u8]) -> Option<f64> {
    if word.is_empty() {
        return None;
    }
    if word.len() <= 15 && word.iter().all(u8::is_ascii_digit) {
        let whole = word.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        return Some(whole as f64);
    }
    let text = std::str::from_utf8(word).ok()?;
    text.parse().ok()
}
