//! What is shipped at once: a compressed write request with its number of samples and its name.

use bytes::Bytes;
use ers_wire::exposition::Kind;
use ers_wire::series_writer::{push_metadata, push_sample};

/// Most samples of one batch; Prometheus sends 2,000, servers accept far more.
const MOST_SAMPLES: u32 = 5_000;
/// Most bytes of one batch before compression.
const MOST_BYTES: usize = 1024 * 1024;

/// Names a batch for ever, so that the server can recognise a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId {
    /// Start of the process that made it, in milliseconds since the Unix epoch.
    pub epoch: u64,
    pub sequence: u64,
}

impl std::fmt::Display for BatchId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

/// Samples on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub id: BatchId,
    pub samples: u32,
    pub created_ms: i64,
    /// Snappy-compressed `WriteRequest`.
    pub body: Bytes,
}

/// A write request that is being put together, cut into several where it gets long.
#[derive(Debug, Default)]
pub struct BatchWriter {
    open: Vec<u8>,
    open_samples: u32,
    total: u64,
    /// Complete requests: samples and compressed body.
    done: Vec<(u32, Bytes)>,
}

impl BatchWriter {
    pub fn sample(&mut self, encoded_labels: &[u8], value: f64, timestamp_ms: i64) {
        push_sample(&mut self.open, encoded_labels, value, timestamp_ms);
        self.open_samples += 1;
        self.total += 1;
        if self.open_samples >= MOST_SAMPLES || self.open.len() >= MOST_BYTES {
            self.cut();
        }
    }

    /// The type of a family. Counts as no sample.
    pub fn metadata(&mut self, family: &str, kind: Kind) {
        push_metadata(&mut self.open, family, kind);
    }

    /// Samples written since the last [`BatchWriter::take`].
    pub fn samples(&self) -> u64 {
        self.total
    }

    fn cut(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut compressed = vec![0; snap::raw::max_compress_len(self.open.len())];
        let length = snap::raw::Encoder::new()
            .compress(&self.open, &mut compressed)
            .expect("a request is below 4 GiB and the buffer as long as asked for");
        self.done.push((self.open_samples, Bytes::copy_from_slice(&compressed[..length])));
        self.open.clear();
        self.open_samples = 0;
    }

    /// Everything written so far, as requests with their numbers of samples; the writer is empty afterwards.
    pub fn take(&mut self) -> Vec<(u32, Bytes)> {
        self.cut();
        self.total = 0;
        std::mem::take(&mut self.done)
    }

    /// Throws away what was written; the number of samples lost.
    pub fn discard(&mut self) -> u64 {
        self.open.clear();
        self.open_samples = 0;
        self.done.clear();
        std::mem::take(&mut self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_requests_are_cut() {
        let mut writer = BatchWriter::default();
        for at in 0..12_000 {
            writer.sample(b"", at as f64, at);
        }
        let samples: Vec<u32> = writer.take().iter().map(|(samples, _)| *samples).collect();
        assert_eq!(samples, [5_000, 5_000, 2_000]);
        assert_eq!(writer.take(), []);
    }
}
