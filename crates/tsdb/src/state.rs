//! The small file `state`: how far the head was written to segments, and the metadata. Without it a start still works, it only reads more of the log.
//!
//! ```text
//! magic 8 · version u16 · key id u32 · tenant uuid 16 · tenant number u32 · flushed sequence u64 · flushed before ms i64
//! · number of metadata · (metric · kind u8 · help · unit)* · crc32 u32          (numbers and lengths as varints where no width is given)
//! ```

use std::path::Path;

use ers_journal::Tenant;
use ers_journal::disk::{Disk, replace_file};
use ers_wire::remote_write::{Metadata, MetricType};

use crate::codec::{get_varint, put_varint};
use crate::error::{OpenError, StorageError};
use crate::metadata::MetadataStore;
use crate::options::Limits;

pub(crate) const FILE_NAME: &str = "state";
const MAGIC: [u8; 8] = *b"ERSTSST\n";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 8 + 2 + 4 + 16 + 4 + 8 + 8;

/// Samples before `before_ms` of log records before `seq` are in segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub seq: u64,
    pub before_ms: i64,
}

impl Flushed {
    pub const NOTHING: Flushed = Flushed { seq: 0, before_ms: i64::MIN };
}

pub(crate) fn write(
    disk: &dyn Disk,
    path: &Path,
    tenant: Tenant,
    flushed: Flushed,
    metadata: &MetadataStore,
) -> Result<(), StorageError> {
    let mut bytes = Vec::with_capacity(4096);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(tenant.uuid.as_bytes());
    bytes.extend_from_slice(&tenant.number.to_le_bytes());
    bytes.extend_from_slice(&flushed.seq.to_le_bytes());
    bytes.extend_from_slice(&flushed.before_ms.to_le_bytes());
    put_varint(&mut bytes, metadata.len() as u64);
    for entry in metadata.list(None, usize::MAX) {
        bytes.push(entry.kind.number());
        for text in [&entry.metric, &entry.help, &entry.unit] {
            put_varint(&mut bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    replace_file(disk, path, &bytes).map_err(|error| StorageError::io("write", path, error))
}

/// `Ok(None)` when the file is damaged.
pub(crate) fn read(
    bytes: &[u8],
    path: &Path,
    tenant: Tenant,
    limits: &Limits,
) -> Result<Option<(Flushed, MetadataStore)>, OpenError> {
    let Some((content, crc)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) || content.len() < FIXED_BYTES || content[..8] != MAGIC {
        return Ok(None);
    }
    let version = u16::from_le_bytes([content[8], content[9]]);
    let key_id = u32::from_le_bytes([content[10], content[11], content[12], content[13]]);
    if version != VERSION || key_id != 0 {
        let what = format!("format version {version}, key {key_id}");
        return Err(OpenError::Unsupported { path: path.into(), what });
    }
    let found = uuid::Uuid::from_slice(&content[14..30]).unwrap_or_default();
    if found != tenant.uuid {
        return Err(OpenError::ForeignTenant { path: path.into(), found, expected: tenant.uuid });
    }
    Ok(parse(content, limits))
}

fn parse(content: &[u8], limits: &Limits) -> Option<(Flushed, MetadataStore)> {
    let seq = u64::from_le_bytes(content.get(34..42)?.try_into().ok()?);
    let before_ms = i64::from_le_bytes(content.get(42..50)?.try_into().ok()?);
    let mut at = FIXED_BYTES;
    let text = |at: &mut usize| {
        let len = usize::try_from(get_varint(content, at)?).ok()?;
        let bytes = content.get(*at..at.checked_add(len)?)?;
        *at += len;
        std::str::from_utf8(bytes).ok()
    };
    let count = get_varint(content, &mut at)?;
    let mut metadata = MetadataStore::default();
    for _ in 0..count {
        let kind = MetricType::from_number(u64::from(*content.get(at)?));
        at += 1;
        let (metric, help, unit) = (text(&mut at)?, text(&mut at)?, text(&mut at)?);
        metadata.put(&Metadata { metric, kind, help, unit }, limits.max_metadata, limits.max_label_value_bytes);
    }
    metadata.dirty = false;
    Some((Flushed { seq, before_ms }, metadata))
}
