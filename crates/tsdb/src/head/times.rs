//! Time columns, kept once per content: all series of a scrape share one.

use std::sync::{Arc, Mutex};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{Scratch, decode_times, encode_times};
use crate::sync::lock;

/// An encoded column of rising times.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimeColumn {
    pub bytes: Box<[u8]>,
    pub count: u32,
    pub min_ms: i64,
    pub max_ms: i64,
}

impl TimeColumn {
    /// The times; fewer or none if the bytes are not what the encoder wrote, which cannot be in memory.
    pub fn decode(&self) -> Option<Vec<i64>> {
        let mut times = Vec::with_capacity(self.count as usize);
        decode_times(&self.bytes, self.count as usize, &mut times)?;
        Some(times)
    }
}

#[derive(Default)]
pub(crate) struct TimeColumns(Mutex<HashTable<Arc<TimeColumn>>>);

impl TimeColumns {
    /// `times` is not empty.
    pub fn intern(&self, times: &[i64], scratch: &mut Scratch) -> Arc<TimeColumn> {
        let mut bytes = Vec::with_capacity(64);
        encode_times(times, scratch, &mut bytes);
        let (min_ms, max_ms) = match times {
            [first, .., last] => (*first, *last),
            [only] => (*only, *only),
            [] => (0, 0),
        };
        let hash = xxh3_64(&bytes);
        let count = times.len() as u32;
        let mut columns = lock(&self.0);
        let found = columns.find(hash, |column| {
            column.count == count && column.min_ms == min_ms && column.max_ms == max_ms && *column.bytes == *bytes
        });
        if let Some(found) = found {
            return found.clone();
        }
        let column = Arc::new(TimeColumn { bytes: bytes.into(), count, min_ms, max_ms });
        columns.insert_unique(hash, column.clone(), |column| xxh3_64(&column.bytes));
        column
    }

    /// Forgets columns that no chunk uses.
    pub fn sweep(&self) {
        let mut columns = lock(&self.0);
        columns.retain(|column| Arc::strong_count(column) > 1);
        columns.shrink_to_fit(|column| xxh3_64(&column.bytes));
    }
}
