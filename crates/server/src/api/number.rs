//! Numbers as Prometheus' JSON has them: the shortest digits that read back, laid out by Go's rules.

use std::io::{self, Write};

/// A float between quotes. Plain decimals from 1e-6 up to 1e21, an exponent of at least two digits beyond.
pub fn write_value(out: &mut impl Write, value: f64) -> io::Result<()> {
    out.write_all(b"\"")?;
    write_float(out, value)?;
    out.write_all(b"\"")
}

fn write_float(out: &mut impl Write, value: f64) -> io::Result<()> {
    if value.is_nan() {
        return out.write_all(b"NaN");
    }
    if value.is_infinite() {
        return out.write_all(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value == 0.0 {
        return out.write_all(if value.is_sign_negative() { b"-0" } else { b"0" });
    }
    // Whole numbers are most of what is written.
    if value.fract() == 0.0 && value.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and within 53 bits")]
        let whole = value as i64;
        return out.write_all(itoa::Buffer::new().format(whole).as_bytes());
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value);
    let (sign, magnitude) = shortest.strip_prefix('-').map_or(("", shortest), |rest| ("-", rest));
    out.write_all(sign.as_bytes())?;
    let absolute = value.abs();
    let (mantissa, exponent) = magnitude
        .split_once('e')
        .map_or((magnitude, 0), |(mantissa, exponent)| (mantissa, exponent.parse::<i32>().unwrap_or(0)));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let after = if after == "0" { "" } else { after };
    if (1e-6..1e21).contains(&absolute) {
        if exponent == 0 {
            out.write_all(before.as_bytes())?;
            if !after.is_empty() {
                out.write_all(b".")?;
                out.write_all(after.as_bytes())?;
            }
            return Ok(());
        }
        return write_shifted(out, before, after, exponent);
    }
    write_scientific(out, before, after, exponent)
}

/// `before.after` times ten to the `exponent`, without one.
fn write_shifted(out: &mut impl Write, before: &str, after: &str, exponent: i32) -> io::Result<()> {
    let digits: Vec<u8> = before.bytes().chain(after.bytes()).collect();
    let point = i64::try_from(before.len()).unwrap_or(0) + i64::from(exponent);
    if point <= 0 {
        out.write_all(b"0.")?;
        for _ in 0..-point {
            out.write_all(b"0")?;
        }
        return out.write_all(&digits);
    }
    let point = usize::try_from(point).unwrap_or(0);
    for at in 0..point.max(digits.len()) {
        if at == point {
            out.write_all(b".")?;
        }
        out.write_all(&[digits.get(at).copied().unwrap_or(b'0')])?;
    }
    Ok(())
}

fn write_scientific(out: &mut impl Write, before: &str, after: &str, exponent: i32) -> io::Result<()> {
    // One digit before the point; ryu may have written a small number as 0.00001.
    let digits: String = before.chars().chain(after.chars()).collect();
    let leading_zeros = digits.bytes().take_while(|digit| *digit == b'0').count();
    let significant = digits[leading_zeros..].trim_end_matches('0');
    let exponent = exponent + i32::try_from(before.len()).unwrap_or(0) - 1 - i32::try_from(leading_zeros).unwrap_or(0);
    let (first, rest) = significant.split_at(1.min(significant.len()));
    out.write_all(first.as_bytes())?;
    if !rest.is_empty() {
        out.write_all(b".")?;
        out.write_all(rest.as_bytes())?;
    }
    write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Seconds with three decimals, or none where they are zero.
pub fn write_time(out: &mut impl Write, ms: i64) -> io::Result<()> {
    if ms < 0 {
        out.write_all(b"-")?;
    }
    let ms = ms.unsigned_abs();
    let mut buffer = itoa::Buffer::new();
    out.write_all(buffer.format(ms / 1_000).as_bytes())?;
    match ms % 1_000 {
        0 => Ok(()),
        fraction => write!(out, ".{fraction:03}"),
    }
}

/// A string between quotes.
pub fn write_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.write_all(b"\"")?;
        out.write_all(text.as_bytes())?;
        return out.write_all(b"\"");
    }
    serde_json::to_writer(out, text).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn value(value: f64, expected: &str) {
        let mut out = Vec::new();
        write_float(&mut out, value).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{value:e}");
        if value.is_finite() {
            assert_eq!(expected.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }

    /// Expected texts are `strconv.FormatFloat(v, 'f' or 'e', -1, 64)`.
    #[test]
    fn floats_are_laid_out_as_go_does() {
        value(0.0, "0");
        value(-0.0, "-0");
        value(1.0, "1");
        value(-1.5, "-1.5");
        value(0.1, "0.1");
        value(100.0, "100");
        value(1e15, "1000000000000000");
        value(9_007_199_254_740_993.0, "9007199254740992");
        value(1e16, "10000000000000000");
        value(1.234_567e17, "123456700000000000");
        value(123_456_789_012_345_680_000.0, "123456789012345680000");
        value(1e20, "100000000000000000000");
        value(1e21, "1e+21");
        value(-1.25e22, "-1.25e+22");
        value(1.797_693_134_862_315_7e308, "1.7976931348623157e+308");
        value(1e-6, "0.000001");
        value(1.5e-6, "0.0000015");
        value(0.000_012_3, "0.0000123");
        value(9.99e-7, "9.99e-07");
        value(1e-7, "1e-07");
        value(5e-324, "5e-324");
        value(0.123_456_789_012_345_67, "0.12345678901234566");
        value(1_700_000_000.123, "1700000000.123");
        value(f64::INFINITY, "+Inf");
        value(f64::NEG_INFINITY, "-Inf");
        value(f64::NAN, "NaN");
    }

    #[track_caller]
    fn time(ms: i64, expected: &str) {
        let mut out = Vec::new();
        write_time(&mut out, ms).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn times_have_three_decimals_or_none() {
        time(1_700_000_000_000, "1700000000");
        time(1_700_000_000_001, "1700000000.001");
        time(1_700_000_000_120, "1700000000.120");
        time(-1_500, "-1.500");
        time(0, "0");
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        write_string(&mut out, "a\"b\\c\n\u{1}ü").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#""a\"b\\c\n\u0001ü""#);
    }
}
