//! The values that every part of ERS speaks: labels, samples, time, identity and the agent's configuration.
//!
//! Pure: no I/O, no clock, no async runtime.

pub mod agent_config;
pub mod labels;
pub mod names;
pub mod sample;
pub mod time;

pub use labels::{Label, Labels, METRIC_NAME};
pub use sample::{STALE_NAN, Sample, is_stale};
pub use time::{Clock, SystemClock, TimeRange};
