//! Columns of integers.

use super::Scratch;
use super::bits::{get_varint, pack, put_varint, unpack, unzigzag, varint_bytes, width_of, zigzag};

const CONST: u8 = 0;
const STEP: u8 = 1;
const FRAME: u8 = 2;
const DELTA: u8 = 3;
const DELTA2: u8 = 4;
/// All values are `base + (x << shift)`; the rest of the column is about `x`.
const SHIFTED: u8 = 0x10;
const BLOCK: usize = 32;

pub(super) fn encode(values: &[i64], scratch: &mut Scratch, into: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    let different = values.iter().fold(0_u64, |bits, value| bits | (value ^ first) as u64);
    if different == 0 {
        into.push(CONST);
        put_varint(into, zigzag(first));
        return;
    }
    // Memory sizes are multiples of 1024 or 4096: their low bits never change, nor does any difference have them.
    let shift = different.trailing_zeros();
    if shift < 2 {
        encode_plain(values, 0, &mut scratch.deltas, &mut scratch.deltas2, into);
        return;
    }
    let base = first & ((1_i64 << shift) - 1);
    scratch.shifted.clear();
    scratch.shifted.extend(values.iter().map(|value| value >> shift));
    let start = into.len();
    into.push(0);
    into.push(shift as u8);
    put_varint(into, zigzag(base));
    let body = into.len();
    encode_plain(&scratch.shifted, SHIFTED, &mut scratch.deltas, &mut scratch.deltas2, into);
    into[start] = into[body];
    into.remove(body);
}

fn encode_plain(values: &[i64], flag: u8, deltas: &mut Vec<i64>, deltas2: &mut Vec<i64>, into: &mut Vec<u8>) {
    deltas.clear();
    deltas.extend(values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
    let first_delta = deltas[0];
    if deltas.iter().all(|delta| *delta == first_delta) {
        into.push(STEP | flag);
        put_varint(into, zigzag(values[0]));
        put_varint(into, zigzag(first_delta));
        return;
    }
    deltas2.clear();
    deltas2.extend(deltas.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
    let frame_bytes = blocks_bytes(values);
    let delta_bytes = varint_bytes(zigzag(values[0])) + blocks_bytes(deltas);
    let delta2_bytes = varint_bytes(zigzag(values[0])) + varint_bytes(zigzag(first_delta)) + blocks_bytes(deltas2);
    if frame_bytes <= delta_bytes && frame_bytes <= delta2_bytes {
        into.push(FRAME | flag);
        put_blocks(values, into);
    } else if delta_bytes <= delta2_bytes {
        into.push(DELTA | flag);
        put_varint(into, zigzag(values[0]));
        put_blocks(deltas, into);
    } else {
        into.push(DELTA2 | flag);
        put_varint(into, zigzag(values[0]));
        put_varint(into, zigzag(first_delta));
        put_blocks(deltas2, into);
    }
}

fn range(block: &[i64]) -> (i64, u64) {
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for value in block {
        min = min.min(*value);
        max = max.max(*value);
    }
    (min, max.wrapping_sub(min) as u64)
}

fn blocks_bytes(values: &[i64]) -> usize {
    values
        .chunks(BLOCK)
        .map(|block| {
            let (min, spread) = range(block);
            varint_bytes(zigzag(min)) + 1 + (block.len() * width_of(spread) as usize).div_ceil(8)
        })
        .sum()
}

fn put_blocks(values: &[i64], into: &mut Vec<u8>) {
    for block in values.chunks(BLOCK) {
        let (min, spread) = range(block);
        let width = width_of(spread);
        put_varint(into, zigzag(min));
        into.push(width as u8);
        pack(block.iter().map(|value| value.wrapping_sub(min) as u64), width, into);
    }
}

/// Calls `each` with `count` values, or gives up before the first one that the bytes do not hold.
#[inline]
fn get_blocks(bytes: &[u8], at: &mut usize, count: usize, mut each: impl FnMut(i64)) -> Option<()> {
    let mut left = count;
    while left > 0 {
        let block = left.min(BLOCK);
        let min = unzigzag(get_varint(bytes, at)?);
        let width = u32::from(*bytes.get(*at)?);
        *at += 1;
        let packed = (block * width as usize).div_ceil(8);
        if width > 64 || bytes.len() - *at < packed {
            return None;
        }
        unpack(&bytes[*at..], block, width, |value| each(min.wrapping_add(value as i64)));
        *at += packed;
        left -= block;
    }
    Some(())
}

pub(super) fn decode(bytes: &[u8], count: usize, into: &mut Vec<i64>) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    let mut at = 1;
    let kind = *bytes.first()?;
    let (shift, base) = if kind & SHIFTED != 0 {
        let shift = *bytes.get(1)?;
        at = 2;
        let base = unzigzag(get_varint(bytes, &mut at)?);
        (u32::from(shift), base)
    } else {
        (0, 0)
    };
    if shift > 63 {
        return None;
    }
    let start = into.len();
    match kind & !SHIFTED {
        CONST => {
            let value = unzigzag(get_varint(bytes, &mut at)?);
            into.resize(start + count, value);
        }
        STEP => {
            let mut value = unzigzag(get_varint(bytes, &mut at)?);
            let step = unzigzag(get_varint(bytes, &mut at)?);
            into.extend((0..count).map(|_| {
                let now = value;
                value = value.wrapping_add(step);
                now
            }));
        }
        FRAME => get_blocks(bytes, &mut at, count, |value| into.push(value))?,
        DELTA => {
            let mut value = unzigzag(get_varint(bytes, &mut at)?);
            into.push(value);
            get_blocks(bytes, &mut at, count - 1, |delta| {
                value = value.wrapping_add(delta);
                into.push(value);
            })?;
        }
        DELTA2 => {
            let mut value = unzigzag(get_varint(bytes, &mut at)?);
            let mut delta = unzigzag(get_varint(bytes, &mut at)?);
            into.push(value);
            if count > 1 {
                value = value.wrapping_add(delta);
                into.push(value);
            }
            get_blocks(bytes, &mut at, count.saturating_sub(2), |change| {
                delta = delta.wrapping_add(change);
                value = value.wrapping_add(delta);
                into.push(value);
            })?;
        }
        _ => return None,
    }
    if shift > 0 {
        for value in &mut into[start..] {
            *value = (*value << shift) | base;
        }
    }
    Some(())
}
