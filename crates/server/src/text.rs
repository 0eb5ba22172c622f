//! Times as text.

use chrono::{DateTime, SecondsFormat, Utc};

/// `2026-01-31T12:00:00Z`
pub fn rfc3339(ms: i64) -> String {
    moment(ms).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `2026-01-31T12:00:00.123Z`
pub fn rfc3339_millis(ms: i64) -> String {
    moment(ms).to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn moment(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}
