//! Columns of times and values as bytes, bit-exact.
//!
//! ```text
//! ints:   kind u8 · [shift u8 · base zigzag varint, when kind has SHIFTED] · ...
//!         CONST   value           (zigzag varint; so are first, step and every block's base)
//!         STEP    first · step
//!         FRAME   blocks          (frame of reference)
//!         DELTA   first · blocks
//!         DELTA2  first · first delta · blocks
//! blocks: for each 32 values: smallest value · width u8 · packed differences to it
//! floats: kind u8: CONST bits u64 | DECIMAL exponent u8 · ints of value * 10^exponent | XOR bit stream
//! ```
//!
//! The number of values is stored beside the column, not in it. Which kind is smallest is measured per column.
//! Decoding never trusts the bytes: a column that ends early or says something impossible is `None`.

mod bits;
mod floats;
mod ints;
#[cfg(test)]
mod tests;
mod xor;

pub(crate) use bits::{get_varint, put_varint, unzigzag, zigzag};

/// Memory that encoders use again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    scaled: Vec<i64>,
    shifted: Vec<i64>,
    deltas: Vec<i64>,
    deltas2: Vec<i64>,
}

/// Times in milliseconds, rising.
pub(crate) fn encode_times(times: &[i64], scratch: &mut Scratch, into: &mut Vec<u8>) {
    ints::encode(times, scratch, into);
}

/// Appends `count` times.
pub(crate) fn decode_times(bytes: &[u8], count: usize, into: &mut Vec<i64>) -> Option<()> {
    ints::decode(bytes, count, into)
}

pub(crate) fn encode_values(values: &[f64], scratch: &mut Scratch, into: &mut Vec<u8>) {
    floats::encode(values, scratch, into);
}

/// Appends `count` values.
pub(crate) fn decode_values(bytes: &[u8], count: usize, into: &mut Vec<f64>) -> Option<()> {
    floats::decode(bytes, count, into)
}
