//! `timex`: how well the kernel's clock is kept, by adjtimex(2) asked without changing anything; needs no privilege.
//!
//! The call goes through a crate that wraps it safely: this workspace forbids unsafe code, and `/proc` has none of it.

use super::{CollectError, Collector};
use crate::samples::Samples;
use rtime_clock::adjtime::{Timex as Query, adjtimex};

/// What adjtimex answers when the clock is not synchronised (`TIME_ERROR`).
const TIME_ERROR: i32 = 5;
/// Offsets are in nanoseconds, not microseconds (`STA_NANO`).
const STA_NANO: i32 = 0x2000;
const NANOSECONDS: f64 = 1_000_000_000.0;
const MICROSECONDS: f64 = 1_000_000.0;
/// Frequencies are in parts per million with 16 bits behind the point.
const PPM_16_FRACTION: f64 = 1_000_000.0 * 65_536.0;

pub struct Timex;

impl Collector for Timex {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let mut query = Query::new();
        let state = adjtimex(&mut query).map_err(|source| match source.kind() {
            // Some sandboxes refuse the call altogether.
            std::io::ErrorKind::PermissionDenied => CollectError::NoData,
            _ => CollectError::Read { path: "adjtimex".into(), source },
        })?;
        let timex = query.0;
        let divisor = if timex.status & STA_NANO != 0 { NANOSECONDS } else { MICROSECONDS };
        for (name, value) in [
            ("node_timex_sync_status", if state == TIME_ERROR { 0.0 } else { 1.0 }),
            ("node_timex_offset_seconds", timex.offset as f64 / divisor),
            ("node_timex_frequency_adjustment_ratio", 1.0 + timex.freq as f64 / PPM_16_FRACTION),
            ("node_timex_maxerror_seconds", timex.maxerror as f64 / MICROSECONDS),
            ("node_timex_estimated_error_seconds", timex.esterror as f64 / MICROSECONDS),
            ("node_timex_status", f64::from(timex.status)),
            ("node_timex_loop_time_constant", timex.constant as f64),
            ("node_timex_tick_seconds", timex.tick as f64 / MICROSECONDS),
            ("node_timex_pps_frequency_hertz", timex.ppsfreq as f64 / PPM_16_FRACTION),
            ("node_timex_pps_jitter_seconds", timex.jitter as f64 / divisor),
            ("node_timex_pps_shift_seconds", f64::from(timex.shift)),
            ("node_timex_pps_stability_hertz", timex.stabil as f64 / PPM_16_FRACTION),
            ("node_timex_tai_offset_seconds", f64::from(timex.tai)),
        ] {
            out.gauge(name, &[], value);
        }
        for (name, value) in [
            ("node_timex_pps_jitter_total", timex.jitcnt),
            ("node_timex_pps_calibration_total", timex.calcnt),
            ("node_timex_pps_error_total", timex.errcnt),
            ("node_timex_pps_stability_exceeded_total", timex.stbcnt),
        ] {
            out.counter(name, &[], value as f64);
        }
        Ok(())
    }
}
