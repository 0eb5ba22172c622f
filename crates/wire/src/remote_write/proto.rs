//! The few rules of protobuf that remote write needs.

use super::DecodeError;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// Walks the fields of one message. `base` is the message's offset in the body, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub base: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], base: usize) -> Self {
        Walk { bytes, at: 0, base }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[cold]
    pub(super) fn error(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { offset: self.base + self.at, what }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            Some(_) => self.long_varint(),
            None => Err(self.error("a number is cut off")),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        let mut shift = 0;
        for (count, &byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            if count == 9 && byte > 1 {
                return Err(self.error("a number is larger than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.at += count + 1;
                return Ok(value);
            }
            shift += 7;
        }
        Err(self.error("a number is cut off"))
    }

    /// Field number and wire type.
    #[inline]
    pub(super) fn tag(&mut self) -> Result<(u32, u8), DecodeError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| self.error("a field number is too large"))?;
        if number == 0 {
            return Err(self.error("field number 0"));
        }
        Ok((number, (tag & 7) as u8))
    }

    /// The content of a length-delimited field and its offset in the body.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<(&'a [u8], usize), DecodeError> {
        let len = self.varint()?;
        let left = self.bytes.len() - self.at;
        if len > left as u64 {
            return Err(self.error("a length goes beyond the end"));
        }
        let start = self.at;
        self.at += len as usize;
        Ok((&self.bytes[start..self.at], self.base + start))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let (bytes, offset) = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { offset })
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at..self.at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
            Some(bytes) => {
                self.at += 8;
                Ok(u64::from_le_bytes(bytes))
            }
            None => Err(self.error("a 64-bit value is cut off")),
        }
    }

    pub(super) fn skip(&mut self, wire_type: u8) -> Result<(), DecodeError> {
        match wire_type {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.fixed64().map(|_| ()),
            BYTES => self.bytes().map(|_| ()),
            FIXED32 if self.bytes.len() - self.at >= 4 => {
                self.at += 4;
                Ok(())
            }
            FIXED32 => Err(self.error("a 32-bit value is cut off")),
            _ => Err(self.error("unknown wire type")),
        }
    }
}

pub(super) fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

pub(super) fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}
