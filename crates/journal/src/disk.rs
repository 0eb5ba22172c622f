//! The few file operations that must survive a crash, as a trait: tests put a disk behind it that fills up, fails, or loses its cache.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Owner may read and write, nobody else.
pub const FILE_MODE: u32 = 0o600;
/// Owner may enter and list, nobody else.
pub const DIR_MODE: u32 = 0o700;

/// A file that is only ever appended to, or cut.
pub trait DiskFile: Send + Sync {
    /// Appends all bytes or fails; after a failure some of them may be in the file.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all bytes survive power loss.
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Where the files are.
pub trait Disk: Send + Sync {
    /// A new empty file; an old one of that name is cut to nothing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// An existing file, to be appended to.
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in this directory survive power loss.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a directory (and its parents) if it is missing.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile(File);

impl DiskFile for RealFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        // O_APPEND and truncate are exclusive in std, so an old file goes first.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().append(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
    }
}

/// Replaces a small file as a whole: written beside it, made durable, renamed over it. A crash leaves the old content or the new.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let written = disk.create(temporary).and_then(|file| {
        file.append(bytes)?;
        file.sync_data()
    });
    if let Err(error) = written {
        // Best effort: the half-written file is overwritten by the next attempt anyway.
        let _ = disk.remove(temporary);
        return Err(error);
    }
    disk.rename(temporary, path)?;
    disk.sync_dir(dir)
}
