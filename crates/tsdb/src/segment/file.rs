//! One segment on disk: what it says about itself in memory, everything else read when asked for.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ers_journal::Tenant;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::index::Index;
use super::{END_MAGIC, Extent, HEADER_BYTES, Meta, SECTIONS, Section, decode_header, u32_at, u64_at};
use crate::error::{OpenError, StorageError};
use crate::sync::lock;

const TAIL_BYTES: usize = 16;
const FOOTER_FIXED_BYTES: usize = SECTIONS.len() * 24 + 36 + 32;
/// A footer with more sources than anyone merges is damage.
const MAX_FOOTER_BYTES: usize = FOOTER_FIXED_BYTES + 16 * 65_536;

pub(crate) struct SegmentFile {
    pub path: PathBuf,
    pub meta: Meta,
    pub bytes: u64,
    pub file: File,
    extents: [Extent; SECTIONS.len()],
    /// crc32 of each block of DATA.
    pub checks: Vec<u32>,
    sha256: [u8; 32],
    index: Mutex<Option<Arc<Index>>>,
}

impl SegmentFile {
    /// Reads and checks everything but DATA. An inner error says what is damaged.
    pub fn open(path: &Path, id: Uuid, tenant: Tenant) -> Result<Result<Self, StorageError>, OpenError> {
        let io = |operation| move |error| StorageError::io(operation, path, error);
        let damaged = |what| Ok(Err(StorageError::Damaged { path: path.into(), what }));
        let file = File::open(path).map_err(io("open"))?;
        let bytes = file.metadata().map_err(io("stat"))?.len();
        let mut header = Vec::with_capacity(HEADER_BYTES);
        (&file).take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(io("read"))?;
        let Some((level, created_ms)) = decode_header(&header, path, tenant)? else { return damaged("header") };
        let Some(tail_at) = bytes.checked_sub(TAIL_BYTES as u64) else { return damaged("length") };
        let mut tail = [0; TAIL_BYTES];
        file.read_exact_at(&mut tail, tail_at).map_err(io("read"))?;
        let footer_bytes = u32_at(&tail, 0) as usize;
        let sane = (FOOTER_FIXED_BYTES..=MAX_FOOTER_BYTES).contains(&footer_bytes) && footer_bytes as u64 <= tail_at;
        if tail[8..] != END_MAGIC || !sane {
            return damaged("end of file");
        }
        let mut footer = vec![0; footer_bytes];
        let footer_at = tail_at - footer_bytes as u64;
        file.read_exact_at(&mut footer, footer_at).map_err(io("read"))?;
        if crc32fast::hash(&footer) != u32_at(&tail, 4) {
            return damaged("footer");
        }
        let Some((extents, meta, sha256)) = parse_footer(&footer, footer_at, id, level, created_ms) else {
            return damaged("footer");
        };
        let path = path.to_path_buf();
        let mut segment =
            SegmentFile { path, meta, bytes, file, extents, checks: Vec::new(), sha256, index: Mutex::default() };
        Ok(segment.check_index().map(|()| segment))
    }

    fn check_index(&mut self) -> Result<(), StorageError> {
        let checks = self.section(Section::Checks)?;
        self.checks = checks.chunks_exact(4).map(|bytes| u32_at(bytes, 0)).collect();
        if self.checks.len() as u64 != self.data().len.div_ceil(super::CHECK_BYTES) {
            return Err(self.damaged("checks"));
        }
        // Read once now, so that damage is found at the start and not by the first query; not kept.
        self.read_index().map(|_| ())
    }

    pub fn data(&self) -> Extent {
        self.extents[0]
    }

    pub fn damaged(&self, what: &'static str) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), what }
    }

    fn section(&self, section: Section) -> Result<Vec<u8>, StorageError> {
        let extent = self.extents[section as usize - 1];
        let mut bytes = vec![0; extent.len as usize];
        self.file
            .read_exact_at(&mut bytes, extent.offset)
            .map_err(|error| StorageError::io("read", &self.path, error))?;
        if crc32fast::hash(&bytes) != extent.crc {
            return Err(self.damaged("index"));
        }
        Ok(bytes)
    }

    fn read_index(&self) -> Result<Index, StorageError> {
        let columns = self.section(Section::Columns)?;
        let (symbols, series) = (self.section(Section::Symbols)?, self.section(Section::Series)?);
        let postings = self.section(Section::Postings)?;
        Index::parse(&columns, symbols, series, postings).ok_or_else(|| self.damaged("index"))
    }

    /// The index, read if it is not in memory.
    pub fn index(&self) -> Result<Arc<Index>, StorageError> {
        let mut held = lock(&self.index);
        match &*held {
            Some(index) => Ok(index.clone()),
            None => {
                let index = Arc::new(self.read_index()?);
                *held = Some(index.clone());
                Ok(index)
            }
        }
    }

    /// Bytes of memory that the index takes now.
    pub fn index_bytes(&self) -> usize {
        lock(&self.index).as_ref().map_or(0, |index| index.bytes())
    }

    pub fn forget_index(&self) {
        *lock(&self.index) = None;
    }

    /// Compares the whole file with the hash in its footer.
    pub fn verify(&self) -> Result<(), StorageError> {
        let mut sha = Sha256::new();
        let end = self.extents.iter().map(|extent| extent.offset + extent.len).max().unwrap_or(0);
        let (mut at, mut chunk) = (0, vec![0; 256 * 1024]);
        while at < end {
            let now = (end - at).min(chunk.len() as u64) as usize;
            self.file
                .read_exact_at(&mut chunk[..now], at)
                .map_err(|error| StorageError::io("read", &self.path, error))?;
            sha.update(&chunk[..now]);
            at += now as u64;
        }
        if sha.finalize()[..] == self.sha256 { Ok(()) } else { Err(self.damaged("sha256")) }
    }
}

type Footer = ([Extent; SECTIONS.len()], Meta, [u8; 32]);

fn parse_footer(footer: &[u8], footer_at: u64, id: Uuid, level: u32, created_ms: i64) -> Option<Footer> {
    let mut extents = [Extent::default(); SECTIONS.len()];
    let mut expected = HEADER_BYTES as u64;
    for (at, section) in SECTIONS.iter().enumerate() {
        let entry = &footer[at * 24..at * 24 + 24];
        let extent = Extent { crc: u32_at(entry, 4), offset: u64_at(entry, 8), len: u64_at(entry, 16) };
        // Sections follow each other without a gap.
        if u32_at(entry, 0) != *section as u32 || extent.offset != expected {
            return None;
        }
        expected = expected.checked_add(extent.len)?;
        extents[at] = extent;
    }
    let at = SECTIONS.len() * 24;
    let sources = u32_at(footer, at + 32) as usize;
    if expected != footer_at || footer.len() != FOOTER_FIXED_BYTES + sources.checked_mul(16)? {
        return None;
    }
    let meta = Meta {
        id,
        level,
        created_ms,
        series: u64_at(footer, at),
        samples: u64_at(footer, at + 8),
        min_ms: u64_at(footer, at + 16) as i64,
        max_ms: u64_at(footer, at + 24) as i64,
        sources: footer[at + 36..at + 36 + sources * 16]
            .chunks_exact(16)
            .filter_map(|id| Uuid::from_slice(id).ok())
            .collect(),
    };
    let sha256 = footer.last_chunk::<32>()?;
    Some((extents, meta, *sha256))
}
