//! Where samples come from: one file per kind of source in the configuration, and the agent itself.

pub mod host;
pub mod kubelet;
pub mod own;
pub mod pods;
pub mod scrape;
