//! The writer of text format 0.0.4, and numbers as Go prints them.

use super::Kind;
use std::fmt::Write as _;

/// Writes families and samples into a string that it is lent.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut String,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut String) -> Self {
        Writer { out }
    }

    /// `# TYPE name kind`
    pub fn family(&mut self, name: &str, kind: Kind) {
        self.out.push_str("# TYPE ");
        self.out.push_str(name);
        self.out.push(' ');
        self.out.push_str(kind.as_str());
        self.out.push('\n');
    }

    /// `name{a="b"} value [timestamp]`; names are taken as they are, values are escaped.
    pub fn sample<'l>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: f64,
        timestamp_ms: Option<i64>,
    ) {
        self.out.push_str(name);
        let mut open = false;
        for (label, text) in labels {
            self.out.push(if open { ',' } else { '{' });
            open = true;
            self.out.push_str(label);
            self.out.push_str("=\"");
            write_label_value(self.out, text);
            self.out.push('"');
        }
        if open {
            self.out.push('}');
        }
        self.finish(value, timestamp_ms);
    }

    /// A sample whose series is written already.
    pub fn series(&mut self, series: &str, value: f64, timestamp_ms: Option<i64>) {
        self.out.push_str(series);
        self.finish(value, timestamp_ms);
    }

    fn finish(&mut self, value: f64, timestamp_ms: Option<i64>) {
        self.out.push(' ');
        format_value(self.out, value);
        if let Some(timestamp) = timestamp_ms {
            let _ = write!(self.out, " {timestamp}");
        }
        self.out.push('\n');
    }
}

/// Appends a label value with `\`, `"` and line breaks escaped.
pub fn write_label_value(out: &mut String, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.push_str(value);
        return;
    }
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// Appends a float the way Go's `strconv.FormatFloat(v, 'g', -1, 64)` does, which is what exporters print:
/// the shortest digits that read back, with an exponent below 1e-4 and from 1e+06 on.
pub fn format_value(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    if value == 0.0 {
        out.push_str(if value.is_sign_negative() { "-0" } else { "0" });
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    let (mantissa, exponent) = out[start..].split_once('e').unwrap_or((&out[start..], "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let mantissa_end = start + mantissa.len();
        out.truncate(mantissa_end);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    } else {
        out.truncate(start);
        let _ = write!(out, "{value}");
    }
}
