//! Writes a remote-write 1.0 `WriteRequest` series by series, from labels that were encoded once before.
//!
//! A collector sends the same series again and again: encoding their labels each time would be most of its work.
//! Messages (prompb/remote.proto, prompb/types.proto): `WriteRequest{1: TimeSeries, 3: MetricMetadata}`,
//! `TimeSeries{1: Label, 2: Sample}`, `Label{1: name, 2: value}`, `Sample{1: double value, 2: int64 timestamp}`,
//! `MetricMetadata{1: type, 2: metric_family_name, 4: help}`.

use ers_model::Sample;

use crate::exposition::Kind;

const LENGTH_DELIMITED: u8 = 2;

/// Appends the labels as the `TimeSeries` message holds them. The caller sorts them by name and drops empty values.
pub fn encode_labels<'l>(out: &mut Vec<u8>, labels: impl IntoIterator<Item = (&'l str, &'l str)>) {
    for (name, value) in labels {
        let length = field_bytes(name.len()) + field_bytes(value.len());
        key(out, 1);
        varint(out, length as u64);
        bytes_field(out, 1, name.as_bytes());
        bytes_field(out, 2, value.as_bytes());
    }
}

/// Appends one series with one sample to a `WriteRequest`.
pub fn push_sample(out: &mut Vec<u8>, encoded_labels: &[u8], value: f64, timestamp_ms: i64) {
    push_samples(out, encoded_labels, &[Sample { timestamp_ms, value }]);
}

/// Appends one series with its samples to a `WriteRequest`.
pub fn push_samples(out: &mut Vec<u8>, encoded_labels: &[u8], samples: &[Sample]) {
    // A negative int64 takes ten bytes, as protobuf has it.
    let sample_bytes = |sample: &Sample| 1 + 8 + 1 + varint_bytes(sample.timestamp_ms as u64);
    let samples_bytes: usize = samples.iter().map(|sample| field_bytes(sample_bytes(sample))).sum();
    key(out, 1);
    varint(out, (encoded_labels.len() + samples_bytes) as u64);
    out.extend_from_slice(encoded_labels);
    for sample in samples {
        key(out, 2);
        varint(out, sample_bytes(sample) as u64);
        out.push((1 << 3) | 1);
        out.extend_from_slice(&sample.value.to_le_bytes());
        out.push(2 << 3);
        varint(out, sample.timestamp_ms as u64);
    }
}

/// Appends the type of a family to a `WriteRequest`.
pub fn push_metadata(out: &mut Vec<u8>, family: &str, kind: Kind) {
    let code = match kind {
        Kind::Untyped => 0,
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Histogram => 3,
        Kind::GaugeHistogram => 4,
        Kind::Summary => 5,
        Kind::Info => 6,
        Kind::StateSet => 7,
    };
    key(out, 3);
    varint(out, (2 + field_bytes(family.len())) as u64);
    out.push(1 << 3);
    varint(out, code);
    bytes_field(out, 2, family.as_bytes());
}

/// Where each series of a `WriteRequest` ends, so that a request can be cut in two; metadata goes with the series before
/// it. `None` when the bytes are no such message.
pub fn series_ends(request: &[u8]) -> Option<Vec<usize>> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < request.len() {
        let is_series = request[at] == (1 << 3) | LENGTH_DELIMITED;
        if request[at] & 7 != LENGTH_DELIMITED {
            return None;
        }
        let (length, bytes) = read_varint(request.get(at + 1..)?)?;
        at = at.checked_add(1 + bytes)?.checked_add(usize::try_from(length).ok()?)?;
        if at > request.len() {
            return None;
        }
        match ends.last_mut() {
            Some(last) if !is_series => *last = at,
            _ if is_series => ends.push(at),
            _ => {}
        }
    }
    Some(ends)
}

fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn key(out: &mut Vec<u8>, field: u8) {
    out.push((field << 3) | LENGTH_DELIMITED);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    key(out, field);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn field_bytes(length: usize) -> usize {
    1 + varint_bytes(length as u64) + length
}

fn varint_bytes(value: u64) -> usize {
    // Seven bits a byte, and one byte for zero.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_the_bytes_that_protobuf_prescribes() {
        let mut labels = Vec::new();
        encode_labels(&mut labels, [("__name__", "up")]);
        let mut out = Vec::new();
        push_sample(&mut out, &labels, 1.0, 300);
        let expect =
            b"\x0a\x1e\x0a\x0e\x0a\x08__name__\x12\x02up\x12\x0c\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\xac\x02";
        assert_eq!(out, expect);
    }

    #[test]
    fn metadata_has_the_bytes_that_protobuf_prescribes() {
        let mut out = Vec::new();
        push_metadata(&mut out, "up", Kind::Gauge);
        assert_eq!(out, b"\x1a\x06\x08\x02\x12\x02up");
    }

    #[test]
    fn lengths_of_varints_are_known_beforehand() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_bytes(value), "{value}");
        }
    }
}
