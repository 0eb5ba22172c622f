use ers_model::{Labels, Sample};
use proptest::prelude::*;

use super::proto::{put_varint, varint_bytes};
use super::*;

type Owned = (Vec<(Labels, Vec<Sample>)>, Vec<(String, MetricType, String, String)>);

#[track_caller]
fn decoded(body: &[u8]) -> Owned {
    let mut raw = Vec::new();
    decompress(body, 1 << 20, &mut raw).unwrap();
    let (mut series, mut metadata) = (Vec::new(), Vec::new());
    for item in decode_request(&raw) {
        match item.unwrap() {
            Item::Series(found) => {
                let labels = Labels::from_pairs(found.labels().map(Result::unwrap));
                let samples: Vec<Sample> = found.samples().map(Result::unwrap).collect();
                assert_eq!(samples.len(), found.sample_count);
                assert!(found.label_bytes().is_some());
                series.push((labels, samples));
            }
            Item::Metadata(Metadata { metric, kind, help, unit }) => {
                metadata.push((metric.to_owned(), kind, help.to_owned(), unit.to_owned()));
            }
        }
    }
    (series, metadata)
}

#[track_caller]
fn check_malformed(raw: &[u8], offset: usize, what: &str) {
    let error = decode_request(raw)
        .find_map(|item| match item {
            Err(error) => Some(error),
            Ok(Item::Series(series)) => {
                series.labels().find_map(Result::err).or_else(|| series.samples().find_map(Result::err))
            }
            Ok(Item::Metadata(_)) => None,
        })
        .expect("an error");
    assert_eq!(error.to_string(), format!("malformed protobuf at byte {offset}: {what}"));
}

/// From Prometheus' own encoder: `up{job="x"} 1 @1000` and `a_total` as a counter with the help `h`.
const KNOWN: &[u8] = b"\x0a\x28\x0a\x0e\x0a\x08__name__\x12\x02up\x0a\x08\x0a\x03job\x12\x01x\x12\x0c\x09\0\0\0\0\0\0\xf0\x3f\x10\xe8\x07\
    \x1a\x0e\x08\x01\x12\x07a_total\x22\x01h";

#[test]
fn a_known_request_is_read() {
    let body = snap::raw::Encoder::new().compress_vec(KNOWN).unwrap();
    let (series, metadata) = decoded(&body);
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].0.to_string(), r#"up{job="x"}"#);
    assert_eq!(series[0].1, [Sample { timestamp_ms: 1000, value: 1.0 }]);
    assert_eq!(metadata, [("a_total".to_owned(), MetricType::Counter, "h".to_owned(), String::new())]);
}

#[test]
fn fields_that_proto3_leaves_out_are_zero_and_unknown_ones_are_skipped() {
    // Sample with nothing in it; series with an unknown varint, fixed32, fixed64 and bytes field; an exemplar; a histogram.
    let raw = b"\x0a\x1b\x12\x00\x78\x05\x7d\x01\x02\x03\x04\x79\x01\x02\x03\x04\x05\x06\x07\x08\x7a\x01z\x1a\x00\x22\x00\x0a\x00";
    let series: Vec<_> = decode_series(raw).map(Result::unwrap).collect();
    assert_eq!((series[0].sample_count, series[0].exemplar_count, series[0].histogram_count), (1, 1, 1));
    assert_eq!(series[0].samples().next().unwrap().unwrap(), Sample { timestamp_ms: 0, value: 0.0 });
    assert_eq!(series[0].labels().next().unwrap().unwrap(), ("", ""));
}

#[test]
fn labels_in_two_pieces_are_read_but_have_no_one_run_of_bytes() {
    let whole = b"\x0a\x11\x0a\x06\x0a\x01a\x12\x01b\x12\x00\x0a\x05\x0a\x01c\x12\x00";
    let series = decode_series(whole).next().unwrap().unwrap();
    assert!(series.label_bytes().is_none());
    assert_eq!(series.labels().map(Result::unwrap).collect::<Vec<_>>(), [("a", "b"), ("c", "")]);
}

#[test]
fn malformed_bodies_are_refused_with_the_place() {
    check_malformed(b"\x0a\x05abc", 2, "a length goes beyond the end");
    check_malformed(b"\x0a", 1, "a number is cut off");
    check_malformed(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 1, "a number is larger than 64 bits");
    check_malformed(b"\x0b", 1, "unknown wire type");
    check_malformed(b"\x02\x00", 1, "field number 0");
    check_malformed(b"\x0a\x04\x12\x02\x09\x00", 5, "a 64-bit value is cut off");
    check_malformed(b"\x0a\x04\x0a\x02\x0a\x07", 6, "a length goes beyond the end");
    let error = decode_series(b"\x0a\x05\x0a\x03\x0a\x01\xff").next().unwrap().unwrap().labels().next().unwrap();
    assert_eq!(error, Err(DecodeError::NotUtf8 { offset: 6 }));
}

#[test]
fn a_claimed_size_is_checked_before_memory_is_taken() {
    let mut into = Vec::new();
    let body = snap::raw::Encoder::new().compress_vec(&[0; 1000]).unwrap();
    assert_eq!(decompress(&body, 999, &mut into), Err(DecodeError::TooLarge { bytes: 1000, max: 999 }));
    decompress(&body, 1000, &mut into).unwrap();
    assert_eq!(into.len(), 1000);
    let bomb = [0xff, 0xff, 0xff, 0x7f, 0x00];
    let error = decompress(&bomb, usize::MAX, &mut into).unwrap_err();
    assert!(error.to_string().contains("cannot hold the claimed"), "{error}");
    assert_eq!(into.capacity(), 1000);
    assert!(matches!(decompress(&[], 10, &mut into), Err(DecodeError::Snappy(_)) | Ok(())));
    assert!(matches!(decompress(&[5, 1, 2], 10, &mut into), Err(DecodeError::Snappy(_))));
}

#[test]
fn an_encoder_is_used_again() {
    let labels = Labels::from_pairs([("__name__", "a")]);
    let mut encoder = Encoder::default();
    for _ in 0..2 {
        encoder.push_series(labels.iter(), &[Sample { timestamp_ms: 5, value: 2.5 }]);
        assert_eq!(encoder.sample_count(), 1);
        assert_eq!(decoded(&encoder.finish()).0, [(labels.clone(), vec![Sample { timestamp_ms: 5, value: 2.5 }])]);
        assert_eq!(encoder.raw_bytes(), 0);
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::vec(("[a-z]{1,8}", "\\PC{1,12}"), 0..6).prop_map(Labels::from_pairs)
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (any::<i64>(), any::<u64>())
        .prop_map(|(timestamp_ms, bits)| Sample { timestamp_ms, value: f64::from_bits(bits) });
    proptest::collection::vec(sample, 0..20)
}

fn metric_type() -> impl Strategy<Value = MetricType> {
    (0_u64..8).prop_map(MetricType::from_number)
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(
        series in proptest::collection::vec((labels(), samples()), 0..8),
        metadata in proptest::collection::vec(("[a-z_]{0,9}", metric_type(), "\\PC{0,20}", "[a-z]{0,6}"), 0..4),
    ) {
        let request: Vec<_> = series.iter().map(|(labels, samples)| TimeSeries { labels, samples }).collect();
        let sent: Vec<_> =
            metadata.iter().map(|(metric, kind, help, unit)| Metadata { metric, kind: *kind, help, unit }).collect();
        let (series_back, metadata_back) = decoded(&encode(&request, &sent));
        prop_assert_eq!(series_back, series);
        prop_assert_eq!(metadata_back, metadata);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decompress(&bytes, 4096, &mut Vec::new());
        for item in decode_request(&bytes).flatten() {
            if let Item::Series(series) = item {
                series.labels().for_each(drop);
                series.samples().for_each(drop);
                let _ = series.label_bytes();
            }
        }
    }

    #[test]
    fn a_damaged_request_never_panics(
        series in proptest::collection::vec((labels(), samples()), 1..4),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let request: Vec<_> = series.iter().map(|(labels, samples)| TimeSeries { labels, samples }).collect();
        let mut raw = Vec::new();
        decompress(&encode(&request, &[]), 1 << 20, &mut raw).unwrap();
        let at = at.index(raw.len());
        raw[at] = byte;
        for series in decode_series(&raw).flatten() {
            series.labels().for_each(drop);
            series.samples().for_each(drop);
        }
    }

    #[test]
    fn a_number_takes_the_bytes_that_were_reckoned(value in any::<u64>(), shift in 0_u32..64) {
        let value = value >> shift;
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        prop_assert_eq!(bytes.len(), varint_bytes(value));
    }
}
