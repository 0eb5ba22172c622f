//! What the end-to-end tests share: the cluster that `e2e/test.sh` started, its objects, its processes, and the server's API.
//!
//! The tests assert the state of the world, not the calls that were made. They run one after another (`--test-threads 1`),
//! each leaves the cluster as it found it, and each fails (never skips) where the cluster is missing.

pub mod cluster;
pub mod processes;
pub mod server;
pub mod wait;

pub use cluster::Cluster;
pub use server::ServerApi;
pub use wait::eventually;
