//! The collector that runs on every node: reads the host, the kubelet and pods, and ships what it read.
//!
//! - [`host`]: the machine's own metrics, under node_exporter's names.
//!
//! The agent listens on nothing (ADR 1): its own metrics travel with the samples that it ships.

pub mod host;
pub mod samples;
