//! Parameters as Prometheus reads them, with its words for what is wrong.

use actix_web::http::StatusCode;
use chrono::DateTime;
use ers_promql::duration::parse_duration;
use ers_promql::{LabelMatcher, parse_selector};

use crate::http::ApiError;
use crate::query_string::QueryString;

/// Most points of one series in a range query.
pub const MAX_POINTS: i64 = 11_000;
/// Most `match[]` of one request.
const MAX_SELECTORS: usize = 100;
/// Times beyond are cut: no sample lies there.
const TIME_BOUND_MS: i64 = 1 << 53;

pub fn bad_data(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_data", message)
}

fn invalid(name: &str, why: impl std::fmt::Display) -> ApiError {
    bad_data(format!("invalid parameter {name:?}: {why}"))
}

/// Milliseconds from seconds, if they are a number that can be one.
fn milliseconds(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "within 2^53")]
    let whole = ms as i64;
    (ms.is_finite() && ms.abs() <= TIME_BOUND_MS as f64).then_some(whole)
}

/// Unix seconds, or RFC 3339.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return milliseconds(seconds);
    }
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

/// Seconds, or Prometheus' notation (`1h30m`).
pub fn parse_span(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return milliseconds(seconds);
    }
    parse_duration(text).ok()
}

/// Readers of named parameters.
pub trait Params {
    fn time(&self, name: &str) -> Result<Option<i64>, ApiError>;
    fn required_time(&self, name: &str) -> Result<i64, ApiError>;
    fn span(&self, name: &str) -> Result<Option<i64>, ApiError>;
    fn most(&self, name: &str) -> Result<usize, ApiError>;
    fn selectors(&self) -> Result<Vec<Vec<LabelMatcher>>, ApiError>;
}

impl Params for QueryString {
    fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let parsed =
            parse_time(text).ok_or_else(|| invalid(name, format!("cannot parse {text:?} to a valid timestamp")));
        parsed.map(Some)
    }

    fn required_time(&self, name: &str) -> Result<i64, ApiError> {
        self.time(name)?.ok_or_else(|| invalid(name, "cannot parse \"\" to a valid timestamp"))
    }

    fn span(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let parsed =
            parse_span(text).ok_or_else(|| invalid(name, format!("cannot parse {text:?} to a valid duration")));
        parsed.map(Some)
    }

    /// A limit; absent and 0 mean none.
    fn most(&self, name: &str) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else { return Ok(usize::MAX) };
        match text.parse::<i64>() {
            Ok(0) => Ok(usize::MAX),
            Ok(limit) => usize::try_from(limit).map_err(|_| invalid(name, "limit must be non-negative")),
            Err(_) => Err(invalid(name, format!("cannot parse {text:?} to a number"))),
        }
    }

    fn selectors(&self) -> Result<Vec<Vec<LabelMatcher>>, ApiError> {
        let mut sets = Vec::new();
        for text in self.all("match[]") {
            if sets.len() == MAX_SELECTORS {
                return Err(invalid("match[]", format!("more than {MAX_SELECTORS}")));
            }
            let matchers = parse_selector(text).map_err(|error| invalid("match[]", error))?;
            if matchers.iter().all(|matcher| matcher.matches("")) {
                return Err(invalid("match[]", "match[] must contain at least one non-empty matcher"));
            }
            sets.push(matchers);
        }
        Ok(sets)
    }
}

/// A range query's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

impl Steps {
    pub fn read(query: &QueryString) -> Result<Self, ApiError> {
        let start_ms = query.required_time("start")?;
        let end_ms = query.required_time("end")?;
        if end_ms < start_ms {
            return Err(invalid("end", "end timestamp must not be before start time"));
        }
        let step_ms = query.span("step")?.ok_or_else(|| invalid("step", "cannot parse \"\" to a valid duration"))?;
        if step_ms <= 0 {
            return Err(invalid(
                "step",
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        // As Prometheus: the division leaves room for the last point.
        if (end_ms - start_ms) / step_ms > MAX_POINTS {
            return Err(bad_data(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
            ));
        }
        Ok(Steps { start_ms, end_ms, step_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unix_seconds_or_rfc_3339() {
        assert_eq!(parse_time("1700000000"), Some(1_700_000_000_000));
        assert_eq!(parse_time("1700000000.1234"), Some(1_700_000_000_123));
        assert_eq!(parse_time("-1.5"), Some(-1_500));
        assert_eq!(parse_time("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(parse_time("2023-11-14T23:13:20.5+01:00"), Some(1_700_000_000_500));
        for wrong in ["", "now", "NaN", "inf", "1e30", "2023-11-14", "2023-11-14 22:13:20"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_are_seconds_or_durations() {
        assert_eq!(parse_span("15"), Some(15_000));
        assert_eq!(parse_span("0.5"), Some(500));
        assert_eq!(parse_span("1h30m"), Some(5_400_000));
        assert_eq!(parse_span("abc"), None);
    }
}
