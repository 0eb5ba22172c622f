use proptest::prelude::*;

use super::*;

#[track_caller]
fn check_values(values: &[f64]) -> usize {
    let (mut scratch, mut bytes, mut back) = (Scratch::default(), Vec::new(), Vec::new());
    encode_values(values, &mut scratch, &mut bytes);
    decode_values(&bytes, values.len(), &mut back).expect("its own bytes");
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(values));
    bytes.len()
}

#[track_caller]
fn check_times(times: &[i64]) -> usize {
    let (mut scratch, mut bytes, mut back) = (Scratch::default(), Vec::new(), Vec::new());
    encode_times(times, &mut scratch, &mut bytes);
    decode_times(&bytes, times.len(), &mut back).expect("its own bytes");
    assert_eq!(back, times);
    bytes.len()
}

#[test]
fn special_values_keep_their_bits() {
    let special = [
        0.0,
        -0.0,
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_0002),
        f64::from_bits(0xfff8_dead_beef_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
        9_007_199_254_740_993.0,
    ];
    check_values(&special);
    for value in special {
        assert_eq!(check_values(&[value; 120]), 9);
        check_values(&[1.0, value]);
        check_values(&[value, 1.5, value]);
    }
    check_values(&[]);
}

#[test]
fn common_columns_take_few_bytes() {
    let counter: Vec<f64> = (0..120).map(|at| 1e6 + f64::from(at) * 15.0).collect();
    assert!(check_values(&counter) <= 10);
    let percent: Vec<f64> = (0..120).map(|at| f64::from(at * 7 % 100) / 100.0).collect();
    assert!(check_values(&percent) <= 120 + 20);
    let memory: Vec<f64> = (0..120).map(|at| 16e9 + f64::from(at * 37 % 64) * 4096.0).collect();
    assert!(check_values(&memory) <= 120);
    let every_15_s: Vec<i64> = (0..120).map(|at| 1_700_000_000_000 + at * 15_000).collect();
    assert!(check_times(&every_15_s) <= 12);
    let jittered: Vec<i64> = every_15_s.iter().enumerate().map(|(at, time)| time + (at as i64 * 7) % 5).collect();
    assert!(check_times(&jittered) <= 70);
}

#[test]
fn damaged_bytes_are_refused_not_believed() {
    let values: Vec<f64> = (0..100).map(|at| f64::from(at * at) * 0.1).collect();
    let (mut scratch, mut bytes) = (Scratch::default(), Vec::new());
    encode_values(&values, &mut scratch, &mut bytes);
    for len in 0..bytes.len() {
        assert!(decode_values(&bytes[..len], values.len(), &mut Vec::new()).is_none(), "{len} bytes");
    }
}

/// Values that look like what machines report, and some that do not.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1_000_000_i64..1_000_000).prop_map(|value| value as f64),
        (any::<i32>(), 0_i32..9).prop_map(|(value, digits)| f64::from(value) / 10_f64.powi(digits)),
        any::<i64>().prop_map(|value| value as f64),
    ];
    prop_oneof![
        proptest::collection::vec(value, 0..300),
        proptest::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..130),
        (any::<i32>(), proptest::collection::vec(0_u32..5000, 0..300), 0_i32..6).prop_map(|(start, steps, digits)| {
            let mut sum = i64::from(start);
            steps
                .into_iter()
                .map(|step| {
                    sum += i64::from(step);
                    sum as f64 / 10_f64.powi(digits)
                })
                .collect()
        }),
    ]
}

fn times() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        proptest::collection::vec(any::<i64>(), 0..200),
        (any::<i32>(), 0_u32..40, proptest::collection::vec(0_i64..1000, 0..200)).prop_map(|(start, shift, steps)| {
            let mut sum = i64::from(start);
            steps
                .into_iter()
                .map(|step| {
                    sum = sum.wrapping_add(step << shift);
                    sum
                })
                .collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_values_come_back_bit_by_bit(values in values()) {
        check_values(&values);
    }

    #[test]
    fn any_times_come_back(times in times()) {
        check_times(&times);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0_usize..300) {
        let _ = decode_values(&bytes, count, &mut Vec::new());
        let _ = decode_times(&bytes, count, &mut Vec::new());
    }
}
