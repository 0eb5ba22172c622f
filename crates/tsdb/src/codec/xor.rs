//! Doubles as differences in bits to the one before (Gorilla): for values that are no short decimals.

/// Writes bits from the highest down.
struct Writer<'a> {
    into: &'a mut Vec<u8>,
    held: u64,
    bits: u32,
}

impl Writer<'_> {
    /// `count` <= 32.
    fn put_few(&mut self, value: u64, count: u32) {
        self.held = self.held << count | value;
        self.bits += count;
        while self.bits >= 8 {
            self.bits -= 8;
            self.into.push((self.held >> self.bits) as u8);
        }
        self.held &= (1 << self.bits) - 1;
    }

    fn put(&mut self, value: u64, count: u32) {
        if count > 32 {
            self.put_few(value >> 32, count - 32);
            self.put_few(value & 0xffff_ffff, 32);
        } else {
            self.put_few(value, count);
        }
    }

    fn finish(mut self) {
        if self.bits > 0 {
            let fill = 8 - self.bits;
            self.put_few(0, fill);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn get(&mut self, count: u32) -> Option<u64> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let mut value = 0_u64;
        while self.at < end {
            let free = 8 - self.at % 8;
            let take = free.min(end - self.at);
            let byte = u64::from(self.bytes[self.at / 8]);
            value = value << take | (byte >> (free - take)) & ((1 << take) - 1);
            self.at += take;
        }
        Some(value)
    }
}

pub(super) fn encode(values: &[f64], into: &mut Vec<u8>) {
    let mut writer = Writer { into, held: 0, bits: 0 };
    let mut previous = 0_u64;
    // No window yet: no difference fits into it.
    let (mut leading, mut significant) = (64_u32, 0_u32);
    for (at, value) in values.iter().enumerate() {
        let bits = value.to_bits();
        if at == 0 {
            writer.put(bits, 64);
            previous = bits;
            continue;
        }
        let difference = bits ^ previous;
        previous = bits;
        if difference == 0 {
            writer.put(0, 1);
            continue;
        }
        let now_leading = difference.leading_zeros().min(31);
        let now_trailing = difference.trailing_zeros();
        let trailing = 64_u32.wrapping_sub(leading).wrapping_sub(significant);
        if significant > 0 && now_leading >= leading && now_trailing >= trailing {
            writer.put(0b10, 2);
            writer.put(difference >> trailing, significant);
        } else {
            leading = now_leading;
            significant = 64 - now_leading - now_trailing;
            writer.put(0b11, 2);
            writer.put(u64::from(leading), 5);
            writer.put(u64::from(significant - 1), 6);
            writer.put(difference >> now_trailing, significant);
        }
    }
    writer.finish();
}

pub(super) fn decode(bytes: &[u8], count: usize, into: &mut Vec<f64>) -> Option<()> {
    let mut reader = Reader { bytes, at: 0 };
    let mut previous = reader.get(64)?;
    into.push(f64::from_bits(previous));
    let (mut leading, mut significant) = (0_u32, 0_u32);
    for _ in 1..count {
        if reader.get(1)? == 1 {
            if reader.get(1)? == 1 {
                leading = reader.get(5)? as u32;
                significant = reader.get(6)? as u32 + 1;
            }
            if significant == 0 || leading + significant > 64 {
                return None;
            }
            previous ^= reader.get(significant)? << (64 - leading - significant);
        }
        into.push(f64::from_bits(previous));
    }
    Some(())
}
