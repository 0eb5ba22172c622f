//! Variable-length numbers and packed bits.

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(crate) fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

pub(super) fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn get_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    let mut value = 0_u64;
    for (count, &byte) in bytes[*at..].iter().take(10).enumerate() {
        if count == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * count);
        if byte < 0x80 {
            *at += count + 1;
            return Some(value);
        }
    }
    None
}

/// Bits that can tell `max` apart from 0.
pub(super) fn width_of(max: u64) -> u32 {
    64 - max.leading_zeros()
}

/// Values of `width` bits one after the other, lowest bit first, filled up to a whole byte.
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, into: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut held, mut bits) = (0_u128, 0_u32);
    for value in values {
        held |= u128::from(value) << bits;
        bits += width;
        if bits >= 64 {
            into.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            bits -= 64;
        }
    }
    let left = bits.div_ceil(8) as usize;
    into.extend_from_slice(&(held as u64).to_le_bytes()[..left]);
}

/// The 8 bytes from `at` on, zeros beyond the end.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8).and_then(|word| <[u8; 8]>::try_from(word).ok()) {
        Some(word) => u64::from_le_bytes(word),
        None => {
            let mut word = [0; 8];
            let tail = bytes.get(at..).unwrap_or(&[]);
            let len = tail.len().min(8);
            word[..len].copy_from_slice(&tail[..len]);
            u64::from_le_bytes(word)
        }
    }
}

/// Calls `each` with `count` values of `width` bits. The caller has checked that the bytes suffice; `bytes` may go on behind them.
#[inline]
pub(super) fn unpack(bytes: &[u8], count: usize, width: u32, mut each: impl FnMut(u64)) {
    if width == 0 {
        (0..count).for_each(|_| each(0));
        return;
    }
    let mask = u64::MAX >> (64 - width);
    if width <= 56 {
        let mut bit = 0_usize;
        for _ in 0..count {
            each((word(bytes, bit / 8) >> (bit % 8)) & mask);
            bit += width as usize;
        }
        return;
    }
    let mut bit = 0_usize;
    for _ in 0..count {
        let low = u128::from(word(bytes, bit / 8)) | u128::from(word(bytes, bit / 8 + 8)) << 64;
        each((low >> (bit % 8)) as u64 & mask);
        bit += width as usize;
    }
}
