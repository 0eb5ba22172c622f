//! Space set aside for the day the volume is full.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::Disk;

const CHUNK_BYTES: usize = 64 * 1024;

pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    disk: Arc<dyn Disk>,
    ready: AtomicBool,
}

impl Reserve {
    pub(crate) fn new(dir: &Path, bytes: u64, disk: Arc<dyn Disk>) -> Self {
        Reserve { path: dir.join("reserve"), bytes, disk, ready: AtomicBool::new(false) }
    }

    /// Allocates it by writing it (a hole would reserve nothing). False when there is no space; that is no error, only a thinner margin.
    pub(crate) fn restore(&self) -> bool {
        if self.bytes == 0 || self.is_ready() {
            return true;
        }
        let existing = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == self.bytes);
        let allocated = existing || self.allocate().is_ok();
        if !allocated {
            let _ = self.disk.remove(&self.path);
        }
        self.ready.store(allocated, Ordering::Release);
        allocated
    }

    fn allocate(&self) -> std::io::Result<()> {
        let file = self.disk.create(&self.path)?;
        let zeros = [0_u8; CHUNK_BYTES];
        let mut left = self.bytes;
        while left > 0 {
            let now = left.min(CHUNK_BYTES as u64);
            file.append(&zeros[..now as usize])?;
            left -= now;
        }
        file.sync_data()
    }

    /// Gives the space back to the volume. True when there was some.
    pub(crate) fn release(&self) -> bool {
        self.ready.swap(false, Ordering::AcqRel) && self.disk.remove(&self.path).is_ok()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
