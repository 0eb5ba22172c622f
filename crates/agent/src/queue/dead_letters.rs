//! Batches that the server refused for good, kept for whoever wants to know why: the newest few, in files of their own.

use crate::batch::Batch;
use std::io;
use std::path::{Path, PathBuf};

/// Files kept; the oldest goes first.
const MOST_FILES: usize = 16;
/// Longest batch that is kept.
const MOST_BYTES: usize = 1024 * 1024;
/// Most of the server's message.
const MOST_MESSAGE_BYTES: usize = 1024;

/// A folder of refused batches: `<epoch>-<sequence>.snappy`, and beside it `.txt` with status and message.
#[derive(Debug)]
pub struct DeadLetters {
    folder: PathBuf,
}

impl DeadLetters {
    pub fn new(folder: PathBuf) -> Self {
        DeadLetters { folder }
    }

    /// Keeps a batch. A disk that does not take it is no reason to stop: it is logged, and counted already.
    pub fn keep(&self, batch: &Batch, status: u16, message: &str) {
        let message: String = message.chars().filter(|letter| !letter.is_control()).take(MOST_MESSAGE_BYTES).collect();
        tracing::error!(
            batch = %batch.id,
            samples = batch.samples,
            status,
            message,
            folder = %self.folder.display(),
            "server refuses a batch for good, moved to the dead letters"
        );
        if let Err(error) = self.write(batch, status, &message) {
            tracing::warn!(%error, folder = %self.folder.display(), "dead letter cannot be written");
        }
    }

    fn write(&self, batch: &Batch, status: u16, message: &str) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let mut kept = letters(&self.folder)?;
        while kept.len() >= MOST_FILES {
            let oldest = kept.remove(0);
            std::fs::remove_file(oldest.with_extension("txt"))?;
            std::fs::remove_file(oldest)?;
        }
        let path = self.folder.join(format!("{}.snappy", batch.id));
        std::fs::write(path.with_extension("txt"), format!("{status} {message}\n"))?;
        std::fs::write(&path, &batch.body[..batch.body.len().min(MOST_BYTES)])
    }
}

/// The batches in the folder, the oldest first.
fn letters(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "snappy") {
            found.push((path.metadata()?.modified()?, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
