//! Objects from a folder of manifests, conditions into a file: what standalone uses in place of an API server.

mod sink;
mod source;
mod state;

pub use sink::FolderSink;
pub use source::{FolderError, FolderSource};
