//! Durations as Prometheus writes them: `1y2w3d4h5m6s7ms`.

/// Units from the largest, with their milliseconds, and whether a printed duration uses them only without a remainder.
const UNITS: [(&str, i64, bool); 7] = [
    ("y", 365 * 24 * 3_600_000, true),
    ("w", 7 * 24 * 3_600_000, true),
    ("d", 24 * 3_600_000, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1000, false),
    ("ms", 1, false),
];

/// Longest duration that Prometheus can hold: 2^63 nanoseconds.
const MAX_MS: i64 = i64::MAX / 1_000_000;

/// Parses a duration into milliseconds. Each unit may occur once, from the largest to the smallest.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    match text {
        "" => return Err("empty duration string".to_owned()),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || format!("not a valid duration string: {text:?}");
    let mut rest = text;
    let mut total: i64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if digits == 0 || letters == 0 {
            return Err(invalid());
        }
        let unit_name = &rest[digits..digits + letters];
        if !UNITS.iter().any(|(name, _, _)| *name == unit_name) {
            return Err(format!("unknown unit {unit_name:?} in duration {text:?}"));
        }
        let unit = UNITS[next_unit..].iter().position(|(name, _, _)| *name == unit_name).ok_or_else(invalid)?;
        let count: i64 = rest[..digits].parse().map_err(|_| "duration out of range".to_owned())?;
        let (_, millis, _) = UNITS[next_unit + unit];
        total = count
            .checked_mul(millis)
            .and_then(|part| total.checked_add(part))
            .filter(|sum| *sum <= MAX_MS)
            .ok_or_else(|| "duration out of range".to_owned())?;
        next_unit += unit + 1;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Prints milliseconds the way Prometheus does; negative ones with a sign in front.
pub fn format_duration(millis: i64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if millis < 0 {
        out.push('-');
    }
    let mut rest = millis.unsigned_abs();
    for (name, unit, exact) in UNITS {
        let unit = unit.unsigned_abs();
        if rest < unit || (exact && !rest.is_multiple_of(unit)) {
            continue;
        }
        out.push_str(&format!("{}{name}", rest / unit));
        rest %= unit;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<i64, &str>) {
        assert_eq!(parse_duration(text).as_ref().map_err(String::as_str), expect.as_ref().map_err(|text| *text));
    }

    #[test]
    fn durations_are_parsed() {
        check("5m", Ok(300_000));
        check("1h30m", Ok(5_400_000));
        check("1y", Ok(31_536_000_000));
        check("4s180ms10", Err("not a valid duration string: \"4s180ms10\""));
        check("1m1h", Err("not a valid duration string: \"1m1h\""));
        check("5hs", Err("unknown unit \"hs\" in duration \"5hs\""));
        check("", Err("empty duration string"));
        check("300y", Err("duration out of range"));
        check("99999999999999999999s", Err("duration out of range"));
    }

    #[test]
    fn durations_are_printed_as_prometheus_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (324, "324ms"),
            (3_000, "3s"),
            (5_400_000, "1h30m"),
            (90 * 24 * 3_600_000, "90d"),
            (14 * 24 * 3_600_000, "2w"),
            (-300_000, "-5m"),
            (366 * 24 * 3_600_000, "366d"),
        ] {
            assert_eq!(format_duration(millis), text);
        }
    }
}
