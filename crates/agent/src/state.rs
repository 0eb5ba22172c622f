//! The state directory from outside: giving it to the agent, and looking into a spool at rest.

use crate::batch::BatchId;
use crate::queue::{ACKNOWLEDGED, BATCH, acknowledged, decode, journal_options, tenant};
use ers_journal::{Journal, JournalError, Position};
use ers_model::SystemClock;
use ers_model::agent_config::AgentConfig;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a state directory cannot be prepared or looked at.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the spool cannot be read: is its agent still running?")]
    Journal(#[source] JournalError),
}

/// Makes the directory if it is missing, and gives it and all that is in it to a user, mode 0700. Links are not followed:
/// the former owner could have pointed one anywhere.
pub fn prepare(state_dir: &Path, uid: u32, gid: u32) -> Result<(), StateError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| StateError::Io { doing, path, source }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed("make", state_dir))?;
    let metadata = state_dir.symlink_metadata().map_err(failed("look at", state_dir))?;
    if (metadata.uid(), metadata.gid()) == (uid, gid) {
        // Given away before. Root without CAP_DAC_OVERRIDE could not list it any more, and what is in it is the agent's own.
        return std::fs::set_permissions(state_dir, std::fs::Permissions::from_mode(0o700))
            .map_err(failed("set the mode of", state_dir));
    }
    let mut folders = vec![state_dir.to_owned()];
    while let Some(folder) = folders.pop() {
        // The content first: a folder that is given away can no longer be listed without more rights.
        for entry in std::fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let path = entry.map_err(failed("list", &folder))?.path();
            let metadata = path.symlink_metadata().map_err(failed("look at", &path))?;
            if metadata.is_dir() {
                folders.push(path);
            } else if (metadata.uid(), metadata.gid()) != (uid, gid) {
                lchown(&path, Some(uid), Some(gid)).map_err(failed("give away", &path))?;
            }
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))
            .map_err(failed("set the mode of", &folder))?;
        lchown(&folder, Some(uid), Some(gid)).map_err(failed("give away", &folder))?;
    }
    Ok(())
}

/// A batch that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub id: BatchId,
    pub samples: u32,
    pub created_ms: i64,
    pub bytes: usize,
}

/// What a spool holds.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub waiting: Vec<Waiting>,
    pub records: u64,
    pub damaged_bytes: u64,
    /// Files that were set aside because nothing in them can be read.
    pub quarantined: usize,
}

/// Reads a spool from its beginning to its end. A torn tail, which a loss of power leaves, is cut off as at any start.
pub fn inspect(state_dir: &Path, config: &AgentConfig) -> Result<Inspection, StateError> {
    let options =
        journal_options(tenant(&config.namespace, &config.target), config.spool.max_bytes, Arc::new(SystemClock));
    let (journal, report) = Journal::open(&state_dir.join("spool"), options).map_err(StateError::Journal)?;
    let mut reader = journal.read_from(Position::START).map_err(StateError::Journal)?;
    let mut found = BTreeMap::new();
    let mut inspection = Inspection { quarantined: report.quarantined.len(), ..Inspection::default() };
    while let Some(record) = reader.next_record().map_err(StateError::Journal)? {
        inspection.records += 1;
        match record.kind {
            BATCH => {
                if let Some(batch) = decode(record.payload) {
                    let (id, samples, created_ms, bytes) =
                        (batch.id, batch.samples, batch.created_ms, batch.body.len());
                    found.insert(record.seq, Waiting { id, samples, created_ms, bytes });
                }
            }
            ACKNOWLEDGED => {
                for sequence in acknowledged(record.payload) {
                    found.remove(&sequence);
                }
            }
            _ => {}
        }
    }
    inspection.damaged_bytes = reader.damaged_bytes();
    inspection.waiting = found.into_values().collect();
    Ok(inspection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_directory_is_its_owners_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("a/b");
        let (uid, gid) = {
            let metadata = folder.path().metadata().expect("metadata");
            (metadata.uid(), metadata.gid())
        };
        prepare(&state, uid, gid).expect("made");
        std::fs::write(state.join("file"), "x").expect("write");
        std::os::unix::fs::symlink("/nonexistent", state.join("link")).expect("link");
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).expect("mode");
        prepare(&state, uid, gid).expect("prepared");
        assert_eq!(state.metadata().expect("metadata").mode() & 0o777, 0o700);
    }
}
