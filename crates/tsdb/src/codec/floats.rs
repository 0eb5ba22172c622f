//! Columns of doubles: exact decimals as integers, all else by XOR.

use std::cell::RefCell;

use super::{Scratch, ints, xor};

const CONST: u8 = 0;
const DECIMAL: u8 = 1;
const XOR: u8 = 10;
/// Beyond 10^15 a double has no digits left after the point that 53 bits could hold.
const MAX_EXPONENT: usize = 15;
const POWERS: [f64; MAX_EXPONENT + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
thread_local! {
    /// Memory for the integers of one column while it is decoded.
    static WHOLE: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
}
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) fn encode(values: &[f64], scratch: &mut Scratch, into: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        into.push(CONST);
        into.extend_from_slice(&first.to_bits().to_le_bytes());
        return;
    }
    let mut scaled = std::mem::take(&mut scratch.scaled);
    let exponent = scale_all(values, &mut scaled);
    match exponent {
        Some(exponent) => {
            into.push(DECIMAL);
            into.push(exponent as u8);
            ints::encode(&scaled, scratch, into);
        }
        None => {
            into.push(XOR);
            xor::encode(values, into);
        }
    }
    scratch.scaled = scaled;
}

/// `value * 10^exponent` as an integer, if dividing it again gives back the very bits.
#[inline]
fn scale(value: f64, exponent: usize) -> Option<i64> {
    let scaled = (value * POWERS[exponent]).round();
    if scaled.abs() < EXACT {
        let whole = scaled as i64;
        if (whole as f64 / POWERS[exponent]).to_bits() == value.to_bits() {
            return Some(whole);
        }
    }
    None
}

fn scale_all(values: &[f64], into: &mut Vec<i64>) -> Option<usize> {
    let mut exponent = 0;
    for &value in values {
        while scale(value, exponent).is_none() {
            exponent += 1;
            if exponent > MAX_EXPONENT {
                return None;
            }
        }
    }
    into.clear();
    for &value in values {
        into.push(scale(value, exponent)?);
    }
    Some(exponent)
}

pub(super) fn decode(bytes: &[u8], count: usize, into: &mut Vec<f64>) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    match *bytes.first()? {
        CONST => {
            let bits = u64::from_le_bytes(bytes.get(1..9)?.try_into().ok()?);
            into.resize(into.len() + count, f64::from_bits(bits));
            Some(())
        }
        DECIMAL => {
            let power = *POWERS.get(usize::from(*bytes.get(1)?))?;
            WHOLE.with_borrow_mut(|whole| {
                whole.clear();
                ints::decode(&bytes[2..], count, whole)?;
                if power == 1.0 {
                    into.extend(whole.iter().map(|value| *value as f64));
                } else {
                    into.extend(whole.iter().map(|value| *value as f64 / power));
                }
                Some(())
            })
        }
        XOR => xor::decode(&bytes[1..], count, into),
        _ => None,
    }
}
