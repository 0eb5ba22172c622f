//! A disk that fills up, fails on demand, and can lose what was never synced. For tests of crates that write files (feature `fault`).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::commit::lock;
use crate::disk::{Disk, DiskFile, RealDisk};

/// Behaves like the machine's disk until told otherwise. Clones share their state.
#[derive(Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Bytes that may still be written; `None` = no limit.
    space: Option<u64>,
    fail_syncs: bool,
    fail_appends: bool,
    syncs: u64,
    files: HashMap<PathBuf, Kept>,
}

/// What of a file would survive a loss of power.
#[derive(Clone, Copy, Default)]
struct Kept {
    synced_bytes: u64,
    name_synced: bool,
}

struct FaultyFile {
    path: PathBuf,
    inner: Arc<dyn DiskFile>,
    state: Arc<Mutex<State>>,
}

impl FaultyDisk {
    /// From now on only so many bytes can be written before the volume is full.
    pub fn set_space(&self, bytes: Option<u64>) {
        lock(&self.0).space = bytes;
    }

    pub fn fail_syncs(&self, fail: bool) {
        lock(&self.0).fail_syncs = fail;
    }

    pub fn fail_appends(&self, fail: bool) {
        lock(&self.0).fail_appends = fail;
    }

    pub fn syncs(&self) -> u64 {
        lock(&self.0).syncs
    }

    /// What a loss of power would do in the worst case: every file is cut to its last synced length, files whose name was never synced vanish.
    /// Only files written through this disk are touched.
    pub fn lose_cache(&self) -> io::Result<()> {
        let state = lock(&self.0);
        for (path, kept) in &state.files {
            if !path.exists() {
                continue;
            }
            if kept.name_synced {
                std::fs::OpenOptions::new().write(true).open(path)?.set_len(kept.synced_bytes)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.fail_appends {
            return Err(io::Error::other("injected: write failed"));
        }
        let Some(space) = &mut state.space else { return self.inner.append(bytes) };
        let fits = (*space).min(bytes.len() as u64);
        *space -= fits;
        self.inner.append(&bytes[..fits as usize])?;
        if fits < bytes.len() as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let len = self.inner.len()?;
        let mut state = lock(&self.state);
        if state.fail_syncs {
            return Err(io::Error::other("injected: sync failed"));
        }
        state.syncs += 1;
        state.files.entry(self.path.clone()).or_default().synced_bytes = len;
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.inner.len()?;
        self.inner.set_len(len)?;
        let mut state = lock(&self.state);
        if let Some(space) = &mut state.space {
            *space += before.saturating_sub(len);
        }
        let kept = state.files.entry(self.path.clone()).or_default();
        kept.synced_bytes = kept.synced_bytes.min(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

impl FaultyDisk {
    fn wrap(&self, path: &Path, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { path: path.into(), inner, state: self.0.clone() })
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inner = RealDisk.create(path)?;
        lock(&self.0).files.insert(path.into(), Kept::default());
        Ok(self.wrap(path, inner))
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inner = RealDisk.open_append(path)?;
        let synced_bytes = inner.len()?;
        lock(&self.0).files.entry(path.into()).or_insert(Kept { synced_bytes, name_synced: true });
        Ok(self.wrap(path, inner))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)?;
        let mut state = lock(&self.0);
        if let Some(kept) = state.files.remove(from) {
            state.files.insert(to.into(), Kept { name_synced: false, ..kept });
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let bytes = std::fs::metadata(path)?.len();
        RealDisk.remove(path)?;
        let mut state = lock(&self.0);
        state.files.remove(path);
        if let Some(space) = &mut state.space {
            *space += bytes;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        if state.fail_syncs {
            return Err(io::Error::other("injected: sync failed"));
        }
        for (path, kept) in &mut state.files {
            if path.parent() == Some(dir) {
                kept.name_synced = true;
            }
        }
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
}
