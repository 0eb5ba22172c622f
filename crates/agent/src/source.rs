//! Where samples come from: one file per kind of source in the configuration, and the agent itself.

pub mod host;
pub mod own;
