//! Values in, a compressed request out.

use ers_model::{Labels, Sample};

use super::Metadata;
use super::proto::{put_varint, varint_bytes};

const FIELD_1_BYTES: u8 = 1 << 3 | 2;
const FIELD_2_BYTES: u8 = 2 << 3 | 2;
const FIELD_3_BYTES: u8 = 3 << 3 | 2;
const FIELD_4_BYTES: u8 = 4 << 3 | 2;
const FIELD_5_BYTES: u8 = 5 << 3 | 2;
const FIELD_1_FIXED64: u8 = 1 << 3 | 1;
const FIELD_1_VARINT: u8 = 1 << 3;
const FIELD_2_VARINT: u8 = 2 << 3;

/// One series and its samples, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct TimeSeries<'a> {
    pub labels: &'a Labels,
    pub samples: &'a [Sample],
}

/// The whole body of a request.
pub fn encode(series: &[TimeSeries<'_>], metadata: &[Metadata<'_>]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for series in series {
        encoder.push_series(series.labels.iter(), series.samples);
    }
    for metadata in metadata {
        encoder.push_metadata(*metadata);
    }
    encoder.finish()
}

/// Builds requests one after the other in the same memory.
#[derive(Debug, Default)]
pub struct Encoder {
    raw: Vec<u8>,
    samples: usize,
    compressor: Compressor,
}

struct Compressor(snap::raw::Encoder);

impl Default for Compressor {
    fn default() -> Self {
        Compressor(snap::raw::Encoder::new())
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Encoder {
    /// Labels must come sorted by name, each once, without empty values; receivers may refuse anything else.
    pub fn push_series<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone, samples: &[Sample]) {
        let labels_bytes: usize = labels.clone().map(|(name, value)| nested(label_bytes(name, value))).sum();
        let samples_bytes: usize = samples.iter().map(|sample| nested(sample_bytes(sample))).sum();
        self.raw.push(FIELD_1_BYTES);
        put_varint(&mut self.raw, (labels_bytes + samples_bytes) as u64);
        for (name, value) in labels {
            self.raw.push(FIELD_1_BYTES);
            put_varint(&mut self.raw, label_bytes(name, value) as u64);
            self.put_text(FIELD_1_BYTES, name);
            self.put_text(FIELD_2_BYTES, value);
        }
        for sample in samples {
            self.raw.push(FIELD_2_BYTES);
            put_varint(&mut self.raw, sample_bytes(sample) as u64);
            self.raw.push(FIELD_1_FIXED64);
            self.raw.extend_from_slice(&sample.value.to_bits().to_le_bytes());
            self.raw.push(FIELD_2_VARINT);
            put_varint(&mut self.raw, sample.timestamp_ms as u64);
        }
        self.samples += samples.len();
    }

    pub fn push_metadata(&mut self, metadata: Metadata<'_>) {
        let Metadata { metric, kind, help, unit } = metadata;
        let bytes = 2 + text_bytes(metric) + text_bytes(help) + text_bytes(unit);
        self.raw.push(FIELD_3_BYTES);
        put_varint(&mut self.raw, bytes as u64);
        self.raw.extend_from_slice(&[FIELD_1_VARINT, kind.number()]);
        self.put_text(FIELD_2_BYTES, metric);
        self.put_text(FIELD_4_BYTES, help);
        self.put_text(FIELD_5_BYTES, unit);
    }

    /// Bytes so far, before compression.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len()
    }

    pub fn sample_count(&self) -> usize {
        self.samples
    }

    /// The compressed body; the encoder is then empty and keeps its memory.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut body = vec![0; snap::raw::max_compress_len(self.raw.len())];
        // Fails only for more than 4 GiB or a short buffer; an empty body is then what it is: nothing to send.
        let bytes = self.compressor.0.compress(&self.raw, &mut body).unwrap_or(0);
        body.truncate(bytes);
        self.raw.clear();
        self.samples = 0;
        body
    }

    fn put_text(&mut self, tag: u8, text: &str) {
        self.raw.push(tag);
        put_varint(&mut self.raw, text.len() as u64);
        self.raw.extend_from_slice(text.as_bytes());
    }
}

/// A message of so many bytes as a field of another.
fn nested(bytes: usize) -> usize {
    1 + varint_bytes(bytes as u64) + bytes
}

fn text_bytes(text: &str) -> usize {
    nested(text.len())
}

fn label_bytes(name: &str, value: &str) -> usize {
    text_bytes(name) + text_bytes(value)
}

fn sample_bytes(sample: &Sample) -> usize {
    1 + 8 + 1 + varint_bytes(sample.timestamp_ms as u64)
}
