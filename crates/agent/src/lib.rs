//! The collector that runs on every node: reads the host, the kubelet and pods, and ships what it read.
//!
//! - [`host`]: the machine's own metrics, under node_exporter's names.
//!
//! The agent listens on nothing (ADR 1): its own metrics travel with the samples that it ships.

pub mod batch;
pub mod config;
pub mod host;
pub mod http;
pub mod metrics;
pub mod queue;
pub mod ready;
pub mod run;
pub mod samples;
pub mod sender;
pub mod series;
pub mod serve;
pub mod source;
pub mod state;
pub mod target;
pub mod tls;
