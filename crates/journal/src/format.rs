//! Bytes of a segment file. All integers are little-endian.
//!
//! ```text
//! header (64 bytes): magic 8 · version u16 · flags u16 · key id u32 · tenant uuid 16 · tenant number u32 · reserved u32
//!                    · created ms i64 · first sequence u64 · reserved u32 · crc32 u32 of the 60 bytes before
//! record:            payload length u32 · crc32 u32 of (kind, sequence, payload) · kind u8 · sequence u64 · payload
//! ```
//!
//! A file is named by its first sequence in 20 digits, `.log`. Sequences rise by one per record; damage and restarts may leave gaps.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::JournalError;

pub const MAGIC: [u8; 8] = *b"ERSJRNL\n";
pub const VERSION: u16 = 1;
pub const HEADER_BYTES: usize = 64;
pub const FRAME_HEADER_BYTES: usize = 17;
const SUFFIX: &str = ".log";

/// Whose data a file holds: a tenant is one ReportPolicy. The number is its short form in the state store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    pub uuid: Uuid,
    pub number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub version: u16,
    /// 0 = plain; no other value is written yet.
    pub key_id: u32,
    pub tenant: Tenant,
    pub created_ms: i64,
    pub first_seq: u64,
}

impl FileHeader {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.key_id.to_le_bytes());
        bytes[16..32].copy_from_slice(self.tenant.uuid.as_bytes());
        bytes[32..36].copy_from_slice(&self.tenant.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_ms.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when these are not the bytes of an undamaged header.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        if bytes[..8] != MAGIC || read_u32(bytes, 60)? != crc32fast::hash(&bytes[..60]) {
            return None;
        }
        Some(FileHeader {
            version: u16::from_le_bytes([bytes[8], bytes[9]]),
            key_id: read_u32(bytes, 12)?,
            tenant: Tenant { uuid: Uuid::from_slice(&bytes[16..32]).ok()?, number: read_u32(bytes, 32)? },
            created_ms: i64::from_le_bytes(bytes[40..48].try_into().ok()?),
            first_seq: read_u64(bytes, 48)?,
        })
    }

    /// Refuses what an undamaged header says we may not or cannot read.
    pub fn check(&self, path: &Path, tenant: Tenant) -> Result<(), JournalError> {
        if self.version != VERSION {
            return Err(JournalError::UnsupportedVersion {
                path: path.into(),
                found: self.version,
                supported: VERSION,
            });
        }
        if self.tenant.uuid != tenant.uuid {
            return Err(JournalError::ForeignTenant {
                path: path.into(),
                found: self.tenant.uuid,
                expected: tenant.uuid,
            });
        }
        if self.key_id != 0 {
            return Err(JournalError::UnknownKey { path: path.into(), key_id: self.key_id });
        }
        Ok(())
    }
}

/// The head of one record, before its checksum is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub payload_bytes: u32,
    pub crc: u32,
    pub kind: u8,
    pub seq: u64,
}

impl FrameHeader {
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Some(FrameHeader {
            payload_bytes: read_u32(bytes, 0)?,
            crc: read_u32(bytes, 4)?,
            kind: *bytes.get(8)?,
            seq: read_u64(bytes, 9)?,
        })
    }
}

/// Appends one record, whose payload is the concatenation of `parts`.
pub fn encode_frame(into: &mut Vec<u8>, kind: u8, seq: u64, parts: &[&[u8]], payload_bytes: u32) {
    let start = into.len();
    into.extend_from_slice(&payload_bytes.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.push(kind);
    into.extend_from_slice(&seq.to_le_bytes());
    for part in parts {
        into.extend_from_slice(part);
    }
    let crc = crc32fast::hash(&into[start + 8..]);
    into[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

pub fn segment_path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{first_seq:020}{SUFFIX}"))
}

/// The first sequence in a segment's file name; `None` for any other file.
pub fn parse_segment_name(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_round_trip_and_no_flipped_bit_does() {
        let header = FileHeader {
            version: VERSION,
            key_id: 0,
            tenant: Tenant { uuid: Uuid::from_u128(7), number: 3 },
            created_ms: 1_700_000_000_000,
            first_seq: 42,
        };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn only_segment_names_are_segments() {
        assert_eq!(parse_segment_name(&segment_path(Path::new("/x"), 12)), Some(12));
        for other in ["reserve", "12.log", "00000000000000000012.log.corrupt", "LOCK"] {
            assert_eq!(parse_segment_name(Path::new(other)), None, "{other}");
        }
    }
}
