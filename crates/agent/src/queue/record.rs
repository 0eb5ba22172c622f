//! What a batch and an acknowledgement look like in the spool.
//!
//! Batch (kind 1): `epoch u64, sequence u64, created i64 (ms), samples u32, body`. Acknowledgement (kind 2): a list of
//! the journal's sequence numbers, `u64` each. All little-endian. The journal adds length, checksum and number.

use crate::batch::{Batch, BatchId};
use bytes::Bytes;

pub const BATCH: u8 = 1;
pub const ACKNOWLEDGED: u8 = 2;
pub const HEAD_BYTES: usize = 28;

pub fn encode_head(batch: &Batch) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[0..8].copy_from_slice(&batch.id.epoch.to_le_bytes());
    head[8..16].copy_from_slice(&batch.id.sequence.to_le_bytes());
    head[16..24].copy_from_slice(&batch.created_ms.to_le_bytes());
    head[24..28].copy_from_slice(&batch.samples.to_le_bytes());
    head
}

/// `None` when the payload is too short to be a batch.
pub fn decode(payload: &[u8]) -> Option<Batch> {
    let number = |at: usize| payload.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    Some(Batch {
        id: BatchId { epoch: number(0)?, sequence: number(8)? },
        created_ms: number(16)? as i64,
        samples: payload.get(24..28)?.try_into().ok().map(u32::from_le_bytes)?,
        body: Bytes::copy_from_slice(payload.get(HEAD_BYTES..)?),
    })
}

/// The sequence numbers that an acknowledgement names.
pub fn acknowledged(payload: &[u8]) -> impl Iterator<Item = u64> + '_ {
    payload.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let batch = Batch {
            id: BatchId { epoch: 7, sequence: 9 },
            samples: 3,
            created_ms: -1,
            body: Bytes::from_static(b"body"),
        };
        let payload = [encode_head(&batch).as_slice(), &batch.body].concat();
        assert_eq!(decode(&payload), Some(batch));
        assert_eq!(decode(&payload[..27]), None);
    }
}
