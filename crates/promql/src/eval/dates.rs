//! Functions of the calendar, in UTC.

use crate::civil::{Civil, days_in_month};
use crate::functions::FunctionId;

/// The part of the moment that a function gives; none when it is not a function of the calendar.
pub(super) fn part(function: FunctionId) -> Option<fn(Civil) -> f64> {
    let part: fn(Civil) -> f64 = match function {
        FunctionId::DaysInMonth => |civil| f64::from(days_in_month(civil.year, civil.month)),
        FunctionId::DayOfMonth => |civil| f64::from(civil.day),
        FunctionId::DayOfWeek => |civil| f64::from(civil.weekday),
        FunctionId::DayOfYear => |civil| f64::from(civil.day_of_year),
        FunctionId::Hour => |civil| f64::from(civil.hour),
        FunctionId::Minute => |civil| f64::from(civil.minute),
        FunctionId::Month => |civil| f64::from(civil.month),
        FunctionId::Year => |civil| civil.year as f64,
        _ => return None,
    };
    Some(part)
}

/// Seconds since the epoch to a moment; the calendar ends where days no longer fit.
pub(super) fn moment(seconds: f64) -> Civil {
    const LIMIT: f64 = 9.2e15;
    Civil::from_unix(seconds.clamp(-LIMIT, LIMIT) as i64)
}
