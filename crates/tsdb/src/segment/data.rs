//! Reads pieces of DATA, each block checked before a byte of it is believed.

use std::os::unix::fs::FileExt;

use super::CHECK_BYTES;
use super::file::SegmentFile;
use crate::error::StorageError;

/// Pieces this close together are read in one go.
const GAP_BYTES: u64 = 32 * 1024;
/// Most bytes read in one go (but for a single larger piece).
const RUN_BYTES: u64 = 1024 * 1024;

/// A piece of DATA that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<T> {
    pub offset: u64,
    pub len: u32,
    pub what: T,
}

/// Reads pieces in the order of their place and hands each to `each`.
pub(crate) fn read_pieces<T: Copy, E: From<StorageError>>(
    segment: &SegmentFile,
    pieces: &mut [Piece<T>],
    mut each: impl FnMut(T, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    pieces.sort_by_key(|piece| piece.offset);
    let mut window = Window::default();
    let mut at = 0;
    while at < pieces.len() {
        let start = pieces[at].offset;
        let mut end = start + u64::from(pieces[at].len);
        let mut after = at + 1;
        while let Some(next) = pieces.get(after) {
            let next_end = next.offset + u64::from(next.len);
            if next.offset > end + GAP_BYTES || next_end - start > RUN_BYTES {
                break;
            }
            end = end.max(next_end);
            after += 1;
        }
        window.load(segment, start, end)?;
        for piece in &pieces[at..after] {
            each(piece.what, window.piece(piece.offset, piece.len))?;
        }
        at = after;
    }
    Ok(())
}

/// A run of whole blocks in memory.
#[derive(Default)]
pub(crate) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Makes `[start, end)` of DATA available.
    pub fn load(&mut self, segment: &SegmentFile, start: u64, end: u64) -> Result<(), StorageError> {
        if self.holds(start, end) {
            return Ok(());
        }
        let data = segment.data();
        if end > data.len || start > end {
            return Err(segment.damaged("a chunk lies outside of the data"));
        }
        let first = start / CHECK_BYTES;
        let last = end.div_ceil(CHECK_BYTES);
        self.start = first * CHECK_BYTES;
        let stop = (last * CHECK_BYTES).min(data.len);
        self.bytes.clear();
        self.bytes.resize((stop - self.start) as usize, 0);
        let read = segment.file.read_exact_at(&mut self.bytes, data.offset + self.start);
        if let Err(error) = read {
            self.bytes.clear();
            return Err(StorageError::io("read", &segment.path, error));
        }
        for (block, bytes) in (first..).zip(self.bytes.chunks(CHECK_BYTES as usize)) {
            if segment.checks.get(block as usize) != Some(&crc32fast::hash(bytes)) {
                self.bytes.clear();
                return Err(segment.damaged("a block's checksum"));
            }
        }
        Ok(())
    }

    pub fn holds(&self, start: u64, end: u64) -> bool {
        !self.bytes.is_empty() && self.start <= start && end <= self.start + self.bytes.len() as u64
    }

    /// A piece of what was loaded.
    pub fn piece(&self, offset: u64, len: u32) -> &[u8] {
        let start = offset.saturating_sub(self.start) as usize;
        self.bytes.get(start..start + len as usize).unwrap_or(&[])
    }
}
