//! What a program says about itself: log lines as JSON, typed events, and its metrics registry.
//!
//! - [`init`] is called once, first thing in `main`.
//! - An [`Event`] is one log line and one counter, and both are written in one place.
//! - [`Metrics`] is a registry with a prefix, and its text form.

mod event;
mod log;
mod metrics;

pub use event::Event;
pub use log::{InitError, init};
pub use metrics::{METRICS_CONTENT_TYPE, Metrics};
pub use prometheus_client;
