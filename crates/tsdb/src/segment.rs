//! Immutable files of samples, `seg/<uuid v7>.seg`. All integers are little-endian, `v` is a varint.
//!
//! ```text
//! header (64 bytes): magic 8 · version u16 · flags u16 · key id u32 · tenant uuid 16 · tenant number u32 · level u32 · created ms i64 · reserved 12 · crc32 u32
//! DATA      time columns and value chunks in the order of the series, each column before the first chunk that uses it
//! CHECKS    crc32 u32 of each 16 KiB of DATA
//! COLUMNS   count v · (offset - previous end v, length v, samples v, first ms zigzag v (to the previous one's), span v)*
//! SYMBOLS   count u32 · end offset u32 of each · texts, sorted
//! SERIES    count u32 · end offset u32 of each · (labels v · (name v · value v)* · chunks v · (column v · offset zigzag v (to the previous end) · length v)*)*
//! POSTINGS  names v · (name v · values v · (value v · kind u8 · length v · bytes)*)*     kind 0: ids as varint differences; 1: roaring
//! footer    sections (kind u32 · crc32 u32 · offset u64 · length u64)* · series u64 · samples u64 · first ms i64 · last ms i64
//!           · sources u32 · (uuid 16)* · sha256 32 of everything before the footer · footer length u32 · crc32 u32 of the footer · magic 8
//! ```
//!
//! Sources are the segments that this one replaces: if one is still there at a start, it is deleted.
//! A file is written under another name, made durable, renamed, and the directory made durable, before the log is cut.

pub(crate) mod data;
pub(crate) mod file;
pub(crate) mod index;
pub(crate) mod writer;

use std::path::Path;

use ers_journal::Tenant;
use uuid::Uuid;

use crate::error::OpenError;

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const CHECK_BYTES: u64 = 16 * 1024;
/// Samples in a chunk of a merged segment.
pub(crate) const MERGED_CHUNK_SAMPLES: usize = 960;
/// No chunk or column holds more; a larger number in a file is damage.
pub(crate) const MAX_CHUNK_SAMPLES: u64 = 1 << 16;
const MAGIC: [u8; 8] = *b"ERSSEG1\n";
const END_MAGIC: [u8; 8] = *b"ERSSEGE\n";
const VERSION: u16 = 1;
pub(crate) const SUFFIX: &str = "seg";
pub(crate) const TEMPORARY_SUFFIX: &str = "tmp";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Section {
    Data = 1,
    Checks = 2,
    Columns = 3,
    Symbols = 4,
    Series = 5,
    Postings = 6,
}

pub(crate) const SECTIONS: [Section; 6] =
    [Section::Data, Section::Checks, Section::Columns, Section::Symbols, Section::Series, Section::Postings];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub crc: u32,
    pub offset: u64,
    pub len: u64,
}

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub id: Uuid,
    /// 0 = from the head, 1 = merged.
    pub level: u32,
    pub created_ms: i64,
    pub series: u64,
    pub samples: u64,
    pub min_ms: i64,
    pub max_ms: i64,
    pub sources: Vec<Uuid>,
}

pub(crate) fn encode_header(tenant: Tenant, level: u32, created_ms: i64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(tenant.uuid.as_bytes());
    bytes[32..36].copy_from_slice(&tenant.number.to_le_bytes());
    bytes[36..40].copy_from_slice(&level.to_le_bytes());
    bytes[40..48].copy_from_slice(&created_ms.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Level and creation time. `Ok(None)` when the header is damaged.
pub(crate) fn decode_header(bytes: &[u8], path: &Path, tenant: Tenant) -> Result<Option<(u32, i64)>, OpenError> {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
        return Ok(None);
    }
    let (version, key_id) = (u16::from_le_bytes([bytes[8], bytes[9]]), u32_at(bytes, 12));
    if version != VERSION || key_id != 0 {
        let what = format!("format version {version}, key {key_id}");
        return Err(OpenError::Unsupported { path: path.into(), what });
    }
    let found = Uuid::from_slice(&bytes[16..32]).unwrap_or_default();
    if found != tenant.uuid {
        return Err(OpenError::ForeignTenant { path: path.into(), found, expected: tenant.uuid });
    }
    Ok(Some((u32_at(bytes, 36), u64_at(bytes, 40) as i64)))
}

/// The number at a place that the caller has checked to be there; 0 beyond the end.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
