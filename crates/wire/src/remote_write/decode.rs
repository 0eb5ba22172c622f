//! Bytes in, borrowed values out.

use ers_model::Sample;

use super::proto::{BYTES, FIXED64, VARINT, Walk};
use super::{DecodeError, Metadata, MetricType};

/// Decompresses a body into `into` (which is cleared). The size that the body claims is checked against `max` before memory is taken.
pub fn decompress(body: &[u8], max: usize, into: &mut Vec<u8>) -> Result<(), DecodeError> {
    into.clear();
    let bytes = snap::raw::decompress_len(body).map_err(|error| DecodeError::Snappy(error.to_string()))?;
    if bytes > max {
        return Err(DecodeError::TooLarge { bytes, max });
    }
    // A block cannot grow more than 64-fold (a copy of 64 bytes takes two or more), so a tiny body that claims much is a lie.
    if bytes > body.len().saturating_mul(64) {
        return Err(DecodeError::Snappy(format!("{} bytes cannot hold the claimed {bytes}", body.len())));
    }
    into.resize(bytes, 0);
    let written =
        snap::raw::Decoder::new().decompress(body, into).map_err(|error| DecodeError::Snappy(error.to_string()))?;
    into.truncate(written);
    Ok(())
}

/// One entry of a request.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    Series(Series<'a>),
    Metadata(Metadata<'a>),
}

/// All series and metadata of a decompressed request, in their order.
pub fn decode_request(body: &[u8]) -> Items<'_> {
    Items { walk: Walk::new(body, 0), failed: false }
}

/// The series of a decompressed request.
pub fn decode_series(body: &[u8]) -> impl Iterator<Item = Result<Series<'_>, DecodeError>> {
    decode_request(body).filter_map(|item| match item {
        Ok(Item::Series(series)) => Some(Ok(series)),
        Ok(Item::Metadata(_)) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Ends after the first error.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    walk: Walk<'a>,
    failed: bool,
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

impl<'a> Items<'a> {
    fn step(&mut self) -> Result<Option<Item<'a>>, DecodeError> {
        while !self.walk.is_done() {
            match self.walk.tag()? {
                (1, BYTES) => {
                    let (message, base) = self.walk.bytes()?;
                    return Series::new(message, base).map(|series| Some(Item::Series(series)));
                }
                (3, BYTES) => {
                    let (message, base) = self.walk.bytes()?;
                    return metadata(message, base).map(|metadata| Some(Item::Metadata(metadata)));
                }
                (_, wire_type) => self.walk.skip(wire_type)?,
            }
        }
        Ok(None)
    }
}

/// One `TimeSeries`, its fields found but its labels and samples not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    message: &'a [u8],
    base: usize,
    /// Where the labels lie in one piece, as every known sender writes them.
    labels: Option<(usize, usize)>,
    /// Where samples begin (the first of them; other fields may follow).
    first_sample: usize,
    pub label_count: usize,
    pub sample_count: usize,
    pub exemplar_count: usize,
    pub histogram_count: usize,
}

impl<'a> Series<'a> {
    fn new(message: &'a [u8], base: usize) -> Result<Self, DecodeError> {
        let mut series = Series {
            message,
            base,
            labels: Some((0, 0)),
            first_sample: message.len(),
            label_count: 0,
            sample_count: 0,
            exemplar_count: 0,
            histogram_count: 0,
        };
        let mut walk = Walk::new(message, base);
        while !walk.is_done() {
            let start = walk.at;
            match walk.tag()? {
                (1, BYTES) => {
                    walk.bytes()?;
                    series.labels = match series.labels {
                        _ if series.label_count == 0 => Some((start, walk.at)),
                        Some((first, end)) if end == start => Some((first, walk.at)),
                        _ => None,
                    };
                    series.label_count += 1;
                }
                (2, BYTES) => {
                    walk.bytes()?;
                    series.first_sample = series.first_sample.min(start);
                    series.sample_count += 1;
                }
                (3, BYTES) => {
                    walk.bytes()?;
                    series.exemplar_count += 1;
                }
                (4, BYTES) => {
                    walk.bytes()?;
                    series.histogram_count += 1;
                }
                (_, wire_type) => walk.skip(wire_type)?,
            }
        }
        Ok(series)
    }

    /// The labels as they were sent, one run of bytes that identifies them: equal bytes mean equal labels (not the other way round).
    /// `None` when the sender mixed labels with other fields.
    pub fn label_bytes(&self) -> Option<&'a [u8]> {
        self.labels.map(|(start, end)| &self.message[start..end])
    }

    /// Name and value of each label, in the order sent, unchecked but for being UTF-8.
    pub fn labels(&self) -> LabelsIter<'a> {
        LabelsIter { walk: Walk::new(self.message, self.base) }
    }

    pub fn samples(&self) -> SamplesIter<'a> {
        SamplesIter { walk: Walk { bytes: self.message, at: self.first_sample, base: self.base } }
    }

    /// Offset of this series in the body.
    pub fn offset(&self) -> usize {
        self.base
    }
}

#[derive(Clone, Debug)]
pub struct LabelsIter<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = Result<(&'a str, &'a str), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.walk.is_done() {
            let step = match self.walk.tag() {
                Ok((1, BYTES)) => self.walk.bytes().and_then(|(message, base)| label(message, base)),
                Ok((_, wire_type)) => match self.walk.skip(wire_type) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            if step.is_err() {
                self.walk.at = self.walk.bytes.len();
            }
            return Some(step);
        }
        None
    }
}

#[derive(Clone, Debug)]
pub struct SamplesIter<'a> {
    walk: Walk<'a>,
}

impl Iterator for SamplesIter<'_> {
    type Item = Result<Sample, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.walk.is_done() {
            let step = match self.walk.tag() {
                Ok((2, BYTES)) => self.walk.bytes().and_then(|(message, base)| sample(message, base)),
                Ok((_, wire_type)) => match self.walk.skip(wire_type) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            if step.is_err() {
                self.walk.at = self.walk.bytes.len();
            }
            return Some(step);
        }
        None
    }
}

fn label(message: &[u8], base: usize) -> Result<(&str, &str), DecodeError> {
    let mut walk = Walk::new(message, base);
    let (mut name, mut value) = ("", "");
    while !walk.is_done() {
        match walk.tag()? {
            (1, BYTES) => name = walk.text()?,
            (2, BYTES) => value = walk.text()?,
            (_, wire_type) => walk.skip(wire_type)?,
        }
    }
    Ok((name, value))
}

#[inline]
fn sample(message: &[u8], base: usize) -> Result<Sample, DecodeError> {
    let mut walk = Walk::new(message, base);
    let (mut value, mut timestamp_ms) = (0.0, 0);
    while !walk.is_done() {
        match walk.tag()? {
            (1, FIXED64) => value = f64::from_bits(walk.fixed64()?),
            (2, VARINT) => timestamp_ms = walk.varint()? as i64,
            (_, wire_type) => walk.skip(wire_type)?,
        }
    }
    Ok(Sample { timestamp_ms, value })
}

fn metadata(message: &[u8], base: usize) -> Result<Metadata<'_>, DecodeError> {
    let mut walk = Walk::new(message, base);
    let mut metadata = Metadata { metric: "", kind: MetricType::Unknown, help: "", unit: "" };
    while !walk.is_done() {
        match walk.tag()? {
            (1, VARINT) => metadata.kind = MetricType::from_number(walk.varint()?),
            (2, BYTES) => metadata.metric = walk.text()?,
            (4, BYTES) => metadata.help = walk.text()?,
            (5, BYTES) => metadata.unit = walk.text()?,
            (_, wire_type) => walk.skip(wire_type)?,
        }
    }
    Ok(metadata)
}
