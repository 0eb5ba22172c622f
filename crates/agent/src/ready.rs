//! The agent's readiness: a file that only this very process can have written, and only after data flowed.
//!
//! A file that an earlier process left behind does not count: it names the process by its id and by the moment the
//! kernel started it, and `health` compares both with what runs now.

use std::io;
use std::path::{Path, PathBuf};

/// Which process this is: its id and its start in clock ticks since the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessIdentity {
    pub pid: u32,
    pub start_ticks: u64,
}

/// Why readiness cannot be said or judged.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("not ready: no batch has been acknowledged by the server yet ({} is missing)", path.display())]
    Missing { path: PathBuf },
    #[error("not ready: {} is of an earlier process", path.display())]
    Leftover { path: PathBuf },
    #[error("{} is not in the form that proc(5) documents", path.display())]
    Malformed { path: PathBuf },
}

impl ProcessIdentity {
    pub fn current() -> Result<Self, ReadyError> {
        Self::of(std::process::id())
    }

    fn of(pid: u32) -> Result<Self, ReadyError> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let text = std::fs::read_to_string(&path).map_err(|source| ReadyError::Read { path: path.clone(), source })?;
        // The name, in parentheses, may hold anything; the start is the 20th field behind it.
        let start = text.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse().ok());
        start.map(|start_ticks| ProcessIdentity { pid, start_ticks }).ok_or(ReadyError::Malformed { path })
    }
}

/// A latch: set once, after the first acknowledged batch, for the life of the process.
#[derive(Debug)]
pub struct ReadyLatch {
    file: Option<PathBuf>,
    identity: ProcessIdentity,
    config_hash: String,
    set: bool,
}

impl ReadyLatch {
    pub fn new(file: Option<PathBuf>, identity: ProcessIdentity, config_hash: &str) -> Self {
        ReadyLatch { file, identity, config_hash: config_hash.to_owned(), set: false }
    }

    /// Says that a batch was acknowledged. Writes the file the first time; a failed write is tried again at the next.
    pub fn acknowledged(&mut self) -> Result<(), ReadyError> {
        if self.set {
            return Ok(());
        }
        if let Some(path) = &self.file {
            let ProcessIdentity { pid, start_ticks } = self.identity;
            let text = format!("{pid} {start_ticks} {}\n", self.config_hash);
            let write = |source| ReadyError::Write { path: path.clone(), source };
            let temporary = path.with_extension("tmp");
            std::fs::write(&temporary, text).map_err(write)?;
            std::fs::rename(&temporary, path).map_err(write)?;
        }
        self.set = true;
        tracing::info!(config_hash = self.config_hash, "ready: the server acknowledged a batch");
        Ok(())
    }

    pub fn is_set(&self) -> bool {
        self.set
    }
}

/// Whether the process that wrote the file runs and is ready.
pub fn check(path: &Path) -> Result<(), ReadyError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReadyError::Missing { path: path.to_owned() });
        }
        Err(source) => return Err(ReadyError::Read { path: path.to_owned(), source }),
    };
    let mut words = text.split_ascii_whitespace();
    let pid = words.next().and_then(|word| word.parse().ok());
    let start_ticks = words.next().and_then(|word| word.parse().ok());
    let (Some(pid), Some(start_ticks)) = (pid, start_ticks) else {
        return Err(ReadyError::Malformed { path: path.to_owned() });
    };
    let leftover = || ReadyError::Leftover { path: path.to_owned() };
    let running = ProcessIdentity::of(pid).map_err(|_| leftover())?;
    if running == (ProcessIdentity { pid, start_ticks }) { Ok(()) } else { Err(leftover()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_after_an_acknowledgement_and_not_by_an_old_file() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("ready");
        assert!(matches!(check(&file), Err(ReadyError::Missing { .. })));
        let identity = ProcessIdentity::current().expect("identity");
        let mut latch = ReadyLatch::new(Some(file.clone()), identity, "abc");
        latch.acknowledged().expect("written");
        check(&file).expect("ready");
        let before = ProcessIdentity { start_ticks: identity.start_ticks - 1, ..identity };
        ReadyLatch::new(Some(file.clone()), before, "abc").acknowledged().expect("written");
        assert!(matches!(check(&file), Err(ReadyError::Leftover { .. })));
    }
}
